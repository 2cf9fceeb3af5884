"""Skeletons, boxes and text drawn on pictures."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.drawing.colours import class_colours, keypoint_colours
    from keypipe.drawing.pictures import draw_comparison, draw_instances, draw_predictions, encode_jpeg
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        colours=("class_colours", "keypoint_colours"),
        pictures=("draw_comparison", "draw_instances", "draw_predictions", "encode_jpeg"),
    )

__all__ = ["class_colours", "draw_comparison", "draw_instances", "draw_predictions", "encode_jpeg", "keypoint_colours"]
