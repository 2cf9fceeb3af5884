"""Datasets on disk: COCO files, YOLO folders, and what changed from one version to another."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.dataset.changes import DatasetChanges, compare_datasets
    from keypipe.dataset.coco import (
        CocoAnnotation,
        CocoCategory,
        CocoFile,
        CocoImage,
        format_coco,
        parse_coco,
        to_coco,
        to_images,
    )
    from keypipe.dataset.coco_stream import CocoLines
    from keypipe.dataset.yolo import View, to_data_yaml, to_view
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        changes=("DatasetChanges", "compare_datasets"),
        coco=(
            "CocoAnnotation",
            "CocoCategory",
            "CocoFile",
            "CocoImage",
            "format_coco",
            "parse_coco",
            "to_coco",
            "to_images",
        ),
        coco_stream=("CocoLines",),
        yolo=("View", "to_data_yaml", "to_view"),
    )

__all__ = [
    "CocoAnnotation",
    "CocoCategory",
    "CocoFile",
    "CocoImage",
    "CocoLines",
    "DatasetChanges",
    "View",
    "compare_datasets",
    "format_coco",
    "parse_coco",
    "to_coco",
    "to_data_yaml",
    "to_images",
    "to_view",
]
