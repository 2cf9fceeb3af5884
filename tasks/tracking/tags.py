"""Names of the tags that keypipe gives to runs and models in MLflow."""

from __future__ import annotations

FINGERPRINT = "keypipe.fingerprint"
DATA = "keypipe.data"
"""DVC's name for the raw data; the commit of the code is ``keypipe.git_commit``."""
REASON = "keypipe.reason"
RESTORED = "keypipe.restored"
STAGE = "keypipe.stage"
BOX = "keypipe.box"
PARENT = "mlflow.parentRunId"

TRIAL = "keypipe.trial"
"""Of a training: the sweep and the number of the trial that it is, such as ``rates/3``."""

PROCESS = "keypipe.process"
LEASE = "keypipe.lease"
MACHINE = "keypipe.machine"
KEPT = "keypipe.kept"
HEADLINE = "keypipe.headline"
START = "keypipe.start"
START_WEIGHTS = "keypipe.start.weights"
START_KEYPOINTS = "keypipe.start.keypoints"
START_TEACHER = "keypipe.start.teacher"
BATCHES = "keypipe.batches"
"""Sizes of a training's batch where memory did not hold the one of ``train.batch``, such as ``8 from epoch 1``."""

REGISTERED = "keypipe.registered"
"""The registered version that came of a training, such as ``v3 of cow``."""
CHAMPION = "keypipe.champion"
"""Since when the version that came of a training is in use, or until when it was."""
JUDGED_AGAINST = "keypipe.judged_against"
"""The version that the gate compared the training with."""

EXPORT = "keypipe.export"
"""Of a model: the child run that exported it."""
NOTE = "keypipe.note"
"""Hash of the description that keypipe wrote; a description of another hash is a person's, and stays."""
