"""Labels of other tools, read into one neutral model."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.exchange.coco import parse_coco_labels
    from keypipe.exchange.deeplabcut import parse_collected_data
    from keypipe.exchange.labels import LabelledImage, LabelSet, merge_label_sets
    from keypipe.exchange.yolo import YoloOptions, YoloTexts, parse_yolo_labels
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        coco=("parse_coco_labels",),
        deeplabcut=("parse_collected_data",),
        labels=("LabelSet", "LabelledImage", "merge_label_sets"),
        yolo=("YoloOptions", "YoloTexts", "parse_yolo_labels"),
    )

__all__ = [
    "LabelSet",
    "LabelledImage",
    "YoloOptions",
    "YoloTexts",
    "merge_label_sets",
    "parse_coco_labels",
    "parse_collected_data",
    "parse_yolo_labels",
]
