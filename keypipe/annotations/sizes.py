"""How large objects are on their images, and the network input at which they are large enough."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from keypipe.keypoints.boxes import Box

ENOUGH_PX = 32
"""Longer side that all but the smallest tenth of the objects shall have: COCO calls those below 32 by 32 px small."""
INPUTS = (160, 320, 480, 640, 960, 1280)
"""Inputs that are proposed, in pixels; time and memory grow with the square."""


class ObjectSizes(msgspec.Struct, frozen=True):
    """Sizes of objects, as shares of the longer side of their image, which an input keeps.

    Attributes:
        median: of the objects' longer sides.
        tenth: a tenth of the objects is smaller.
        image_px: longer side of the largest image.
    """

    median: float
    tenth: float
    image_px: int

    @property
    def imgsz(self) -> int:
        """The smallest input at which most objects are large enough; no larger than the images are."""
        fitting = next((size for size in INPUTS if self.tenth * size >= ENOUGH_PX), INPUTS[-1])
        whole = next((size for size in INPUTS if size >= self.image_px), INPUTS[-1])
        return min(fitting, whole)

    def describe(self) -> str:
        """Return the sizes, and the input that follows."""
        size = self.imgsz
        smallest = "" if self.tenth * size >= ENOUGH_PX else "; the smallest stay hard to learn"
        median_px, tenth_px = self.median * size, self.tenth * size
        return (
            f"objects are {self.median:.0%} of their image's longer side (median; a tenth of them below"
            f" {self.tenth:.0%}); at train.imgsz {size} that is {median_px:.0f} and {tenth_px:.0f} px{smallest}"
        )


def measure_share(box_xyxy: Box, image_wh: tuple[int, int]) -> float:
    """Return the longer side of a box as a share of the longer side of its image."""
    left, top, right, bottom = box_xyxy
    return max(right - left, bottom - top) / max(image_wh)


def summarise_sizes(shares: Sequence[float], image_px: int) -> ObjectSizes | None:
    """Summarise the objects of a folder; None without any.

    Args:
        shares: as ``measure_share`` gives them.
        image_px: longer side of the largest image.
    """
    if not shares:
        return None
    order = sorted(shares)
    return ObjectSizes(order[len(order) // 2], order[len(order) // 10], image_px)
