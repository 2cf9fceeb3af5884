"""What changed from one version of a dataset to another: images, objects, keypoints, splits."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from keypipe.dataset.coco import CocoFile, to_images
from keypipe.errors import format_count
from keypipe.keypoints.boxes import box_iou
from keypipe.keypoints.instances import AnnotatedImage, Instance


class Relabelling(msgspec.Struct, frozen=True):
    """What changed in the annotation of one image.

    Attributes:
        image: its path.
        objects_added: objects without a counterpart before.
        objects_removed: objects without a counterpart now.
        boxes: objects whose box changed.
        keypoints_added: keypoints that were not labelled before, of objects that were there.
        keypoints_removed: keypoints that are no longer labelled, of objects that still are there.
        keypoints_moved: keypoints at another place.
        largest_move_px: the largest of these moves, pixels.
        visibilities: keypoints that became visible or occluded.
    """

    image: str
    objects_added: int = 0
    objects_removed: int = 0
    boxes: int = 0
    keypoints_added: int = 0
    keypoints_removed: int = 0
    keypoints_moved: int = 0
    largest_move_px: float = 0.0
    visibilities: int = 0

    def __str__(self) -> str:
        """Return it in words, such as ``1 object added, 2 keypoints moved by up to 3.5 px``."""
        said = [
            _count(self.objects_added, "object", "added"),
            _count(self.objects_removed, "object", "removed"),
            _count(self.boxes, "box", "changed"),
            _count(self.keypoints_added, "keypoint", "added"),
            _count(self.keypoints_removed, "keypoint", "removed"),
            _count(self.keypoints_moved, "keypoint", f"moved by up to {self.largest_move_px:.1f} px"),
            _count(self.visibilities, "keypoint", "of another visibility"),
        ]
        return ", ".join(part for part in said if part)


def _count(number: int, noun: str, rest: str) -> str:
    return f"{format_count(number, noun, 'boxes' if noun == 'box' else '')} {rest}" if number else ""


class SplitChange(msgspec.Struct, frozen=True):
    """An image that went to another split."""

    image: str
    before: str
    after: str


class DatasetChanges(msgspec.Struct, frozen=True):
    """What one dataset has, and another has not; paths are relative to ``data/``.

    Attributes:
        added: images that only the second has.
        removed: images that only the first has.
        renamed: path before and path now of images that are the same picture.
        replaced: images with another picture under the same path.
        relabelled: images of both whose annotation differs.
        splits: images of both that are in another split now.
        images: number of images of both datasets.
        objects: number of objects of both datasets.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    replaced: tuple[str, ...] = ()
    relabelled: tuple[Relabelling, ...] = ()
    splits: tuple[SplitChange, ...] = ()
    images: tuple[int, int] = (0, 0)
    objects: tuple[int, int] = (0, 0)

    def counts(self) -> dict[str, int]:
        """Return the number of changes of each kind."""
        names = ("added", "removed", "renamed", "replaced", "relabelled", "splits")
        return {name.replace("splits", "in another split"): len(getattr(self, name)) for name in names}


def compare_datasets(
    before: CocoFile,
    after: CocoFile,
    splits_before: Mapping[str, str] | None = None,
    splits_after: Mapping[str, str] | None = None,
) -> DatasetChanges:
    """Compare two versions of a dataset.

    An image is the same under the same path; under another path it is when the picture has the same md5.

    Args:
        before: the first version.
        after: the second.
        splits_before: split of each image of the first, by its path; images without one have no split.
        splits_after: the same of the second.
    """
    old = {image.path: image for image in to_images(before)}
    new = {image.path: image for image in to_images(after)}
    renamed = _find_renamed(old, new)
    pairs = {path: path for path in old.keys() & new.keys()} | renamed
    found = [_compare_image(old[path], new[pairs[path]]) for path in sorted(pairs, key=lambda path: pairs[path])]
    splits_before, splits_after = splits_before or {}, splits_after or {}
    moved = [SplitChange(now, splits_before.get(path, ""), splits_after.get(now, "")) for path, now in pairs.items()]
    return DatasetChanges(
        added=tuple(sorted(new.keys() - set(pairs.values()))),
        removed=tuple(sorted(old.keys() - pairs.keys())),
        renamed=tuple(sorted(renamed.items())),
        replaced=tuple(sorted(path for path in old.keys() & new.keys() if old[path].md5 != new[path].md5)),
        relabelled=tuple(item for item in found if item is not None),
        splits=tuple(sorted((m for m in moved if m.before != m.after and m.before and m.after), key=lambda m: m.image)),
        images=(len(old), len(new)),
        objects=(len(before.annotations), len(after.annotations)),
    )


def _find_renamed(old: Mapping[str, AnnotatedImage], new: Mapping[str, AnnotatedImage]) -> dict[str, str]:
    """Pair the images that one version alone has and that are the same picture; in path order where several are."""
    waiting: dict[str, list[str]] = defaultdict(list)
    for path in sorted(new.keys() - old.keys(), reverse=True):
        waiting[new[path].md5].append(path)
    gone = sorted(old.keys() - new.keys())
    return {path: waiting[old[path].md5].pop() for path in gone if old[path].md5 and waiting.get(old[path].md5)}


def _compare_image(before: AnnotatedImage, after: AnnotatedImage) -> Relabelling | None:
    """Compare the annotation of one image; None where it is the same."""
    if sorted(before.instances, key=repr) == sorted(after.instances, key=repr):
        return None
    pairs = match_objects(before.instances, after.instances)
    changes = [_compare_object(before.instances[i], after.instances[j]) for i, j in pairs]
    moves = [move for _, _, _, some, _ in changes for move in some]
    return Relabelling(
        after.path,
        objects_added=len(after.instances) - len(pairs),
        objects_removed=len(before.instances) - len(pairs),
        boxes=sum(box for box, *_ in changes),
        keypoints_added=sum(added for _, added, *_ in changes),
        keypoints_removed=sum(removed for _, _, removed, *_ in changes),
        keypoints_moved=len(moves),
        largest_move_px=max(moves, default=0.0),
        visibilities=sum(seen for *_, seen in changes),
    )


def _compare_object(before: Instance, after: Instance) -> tuple[bool, int, int, list[float], int]:
    """Return whether the box changed, keypoints added and removed, lengths of moves, and changed visibilities."""
    old, new = before.keypoints, after.keypoints
    both = old.keys() & new.keys()
    moves = [math.hypot(old[name].x - new[name].x, old[name].y - new[name].y) for name in sorted(both)]
    seen = sum(old[name].visibility != new[name].visibility for name in both)
    changed = before.box_xyxy != after.box_xyxy
    return changed, len(new.keys() - old.keys()), len(old.keys() - new.keys()), [m for m in moves if m > 0], seen


def match_objects(before: Sequence[Instance], after: Sequence[Instance]) -> list[tuple[int, int]]:
    """Pair the objects of an image with those of another version of it.

    Args:
        before: objects of one version.
        after: objects of the other.

    Returns:
        Pairs of indices: the assignment with the largest sum of IoU, among objects of one class that overlap.
    """
    from scipy.optimize import linear_sum_assignment

    if not before or not after:
        return []
    same_class = np.array([[a.class_name == b.class_name for b in after] for a in before])
    boxes = [np.array([item.box_xyxy for item in items]) for items in (before, after)]
    overlap = box_iou(boxes[0][:, None], boxes[1]) * same_class
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if overlap[i, j] > 0]
