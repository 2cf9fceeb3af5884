"""keypipe: from labelme keypoints to a measured and exported YOLOv8-pose model."""

__version__ = "0.1.0"
