"""The jury: the test images that may judge models, since no model has learnt from them or was chosen by them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from keypipe.dataset.coco import CocoFile, CocoImage
from keypipe.splits.manifest import USED, Manifest

TEST = "test"


class Chosen(msgspec.Struct, frozen=True):
    """The test images, and which of them may judge.

    Attributes:
        common: those on the test split of every manifest.
        new: those on the challenger's test split that no other model knows: the test split has grown by them.
        left_out: why others may not judge -> how many.
    """

    common: list[CocoImage]
    new: list[CocoImage]
    left_out: dict[str, int]


def choose_images(truth: CocoFile, own: Manifest, others: Mapping[str, Manifest]) -> Chosen:
    """Choose the test images that may judge: no model has learnt from them, or was chosen by them.

    Images are known by their bytes, so that a copy under another name counts as well.

    Args:
        truth: the challenger's test split.
        own: the challenger's manifest.
        others: those of the models that it is compared with, by their names.
    """
    sides = {name: _sides(manifest) for name, manifest in others.items()}
    mine = _sides(own, used=True)
    common: list[CocoImage] = []
    new: list[CocoImage] = []
    left_out: dict[str, int] = {}
    for image in truth.images:
        if mine.get(image.md5) != {TEST}:
            why = "not on the test split of the challenger's manifest alone"
            left_out[why] = left_out.get(why, 0) + 1
            continue
        known = {name: side.get(image.md5) for name, side in sides.items()}
        spoilt = [
            f"{' and '.join(sorted(there))} of the {name}" for name, there in known.items() if there and there != {TEST}
        ]
        if spoilt:
            why = f"in {', '.join(spoilt)}"
            left_out[why] = left_out.get(why, 0) + 1
        elif any(there is None for there in known.values()):
            new.append(image)
        else:
            common.append(image)
    return Chosen(common, new, left_out)


def _sides(manifest: Manifest, *, used: bool = False) -> dict[str, set[str]]:
    """Return the splits of every image by its md5; absent images keep theirs, those without one are left out."""
    found: dict[str, set[str]] = {}
    for line in manifest.lines:
        if line.split and (line.state == USED or not used):
            found.setdefault(line.md5, set()).add(line.split)
    return found
