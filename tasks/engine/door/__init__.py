"""What the pipeline asks of an engine, and the one that answers; from outside nothing else of the engine is imported.

Three small protocols, a module for each purpose: ``training``, ``inference`` and ``exporting``. They are apart because
a stage depends on the code that it imports: train reaches the trainer through ``training`` alone, so that a changed
exporter retrains no model. ``engine()`` of each module returns what implements its protocol: a module of functions
around Ultralytics. A second engine would be such a module beside it, chosen there.
"""
