"""The only importer of Ultralytics: trains, validates and exports, and keeps it to itself.

Ultralytics downloads, phones home and writes beside its inputs unless told otherwise. Everything that it is
told stands here.
"""
