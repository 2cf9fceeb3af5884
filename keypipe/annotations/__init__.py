"""labelme folders: reading and writing files, and which keypoint belongs to which object."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.annotations.draft import draft_schema
    from keypipe.annotations.folder import read_folder
    from keypipe.annotations.labelme import (
        LabelmeFile,
        LabelmeOptions,
        LabelmeShape,
        format_labelme,
        parse_labelme,
        to_shapes,
    )
    from keypipe.annotations.linking.linker import link_keypoints
    from keypipe.annotations.linking.values import BoxShape, Links, PointShape
    from keypipe.annotations.readings import Folder, Ingested
    from keypipe.annotations.shapes import parse_shapes
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        draft=("draft_schema",),
        folder=("read_folder",),
        labelme=(
            "LabelmeFile",
            "LabelmeOptions",
            "LabelmeShape",
            "format_labelme",
            "parse_labelme",
            "to_shapes",
        ),
        readings=(
            "Folder",
            "Ingested",
        ),
        shapes=("parse_shapes",),
        **{
            "linking.linker": ("link_keypoints",),
            "linking.values": (
                "BoxShape",
                "Links",
                "PointShape",
            ),
        },
    )

__all__ = [
    "BoxShape",
    "Folder",
    "Ingested",
    "LabelmeFile",
    "LabelmeOptions",
    "LabelmeShape",
    "Links",
    "PointShape",
    "draft_schema",
    "format_labelme",
    "link_keypoints",
    "parse_labelme",
    "parse_shapes",
    "read_folder",
    "to_shapes",
]
