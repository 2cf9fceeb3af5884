"""Datasets on disk: COCO files, YOLO folders, and what changed from one version to another."""
