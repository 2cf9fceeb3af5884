"""``train.paste``: objects with their keypoints, pasted from other training images.

Ultralytics' own ``copy_paste`` cuts along segments, which poses do not have. Here an object is cut out along its box
with a margin, its edges fade, and what it hides of other objects is labelled as occluded.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from ultralytics.utils.instance import Instances

MARGIN = 0.1
"""Of the box's sides, kept around it: keypoints lie on its edge, and the background fades there."""

SIZES = (0.8, 1.25)
"""Smallest and largest factor of a pasted object's size."""

MOST_HIDDEN = 0.5
"""Share of an object that may be hidden; a place where more would be is not taken."""

MOST_SHARED = 0.1
"""Share of another object that a cutout may hold: more of it would be seen without a label."""

_TRIES = 5
_SOLID = 0.5


class Cutout(NamedTuple):
    """An object with what is around it.

    Attributes:
        image: uint8 (height, width, 3).
        cls: float32 (1, 1), its class.
        box_xyxy: float32 (4,), pixels of the cutout.
        keypoints: float32 (n_slots, 3), x and y in pixels of the cutout, visibility 0, 1 or 2.
    """

    image: NDArray[np.uint8]
    cls: NDArray[np.float32]
    box_xyxy: NDArray[np.float32]
    keypoints: NDArray[np.float32]


class Paste:
    """A transform of Ultralytics' kind that pastes one object of another image with a probability.

    Attributes:
        dataset: the dataset, whose ``buffer`` says which images objects are taken from.
        p: probability, 0 to 1.
    """

    def __init__(self, dataset: Any, p: float) -> None:
        self.dataset, self.p = dataset, p

    def __call__(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Paste, or leave the image as it is: by chance, or where no object or no place is found."""
        if not self.p or random.random() >= self.p:
            return labels
        cutout = self._draw_cutout(labels["im_file"])
        if cutout is None:
            return labels
        factor = random.uniform(*SIZES)
        cutout = resize(cutout, factor)
        height, width = labels["img"].shape[:2]
        instances = labels["instances"]
        instances.convert_bbox(format="xyxy")
        instances.denormalize(width, height)
        for _ in range(_TRIES):
            left, top = (
                random.randint(min(0, room), max(0, room))
                for room in (width - cutout.image.shape[1], height - cutout.image.shape[0])
            )
            pasted = paste(labels["img"], instances.bboxes, instances.keypoints, cutout, (left, top))
            if pasted is not None:
                labels["img"], keypoints, new = pasted
                instances.keypoints[:] = keypoints
                labels["instances"] = Instances.concatenate([instances, new], axis=0)
                labels["cls"] = np.concatenate([labels["cls"], cutout.cls])
                self.dataset.note_pasted(new.keypoints)
                break
        return labels

    def _draw_cutout(self, taken: str) -> Cutout | None:
        """Draw an object of another image of the pool that can be cut out; None where a few tries find none."""
        for _ in range(_TRIES):
            index = random.choice(self.dataset.buffer)
            labels = self.dataset.labels[index]
            if labels["im_file"] == taken or not len(labels["cls"]):
                continue
            label = self.dataset.load_unseen(index)
            cutout = cut_out(label, random.randrange(len(label["cls"])))
            if cutout is not None:
                return cutout
        return None


def cut_out(label: dict[str, Any], number: int) -> Cutout | None:
    """Cut an object out of its image.

    Args:
        label: an image of Ultralytics' dataset and its objects.
        number: of the object.

    Returns:
        The object; None where it has no labelled keypoint, or much of another would come along.
    """
    image, instances = label["img"], label["instances"]
    height, width = image.shape[:2]
    instances.convert_bbox(format="xyxy")
    instances.denormalize(width, height)
    boxes, keypoints = instances.bboxes, instances.keypoints[number]
    if not (keypoints[:, 2] > 0).any():
        return None
    shown = keypoints[keypoints[:, 2] > 0, :2]
    margin = MARGIN * np.tile(boxes[number, 2:] - boxes[number, :2], 2) * (-1, -1, 1, 1)
    window = boxes[number] + margin
    # Points may lie outside of their box.
    low, high = np.minimum(window[:2], shown.min(0) - 1), np.maximum(window[2:], shown.max(0) + 1)
    left, top = np.floor(np.clip(low, 0, (width, height))).astype(int)
    right, bottom = np.ceil(np.clip(high, 0, (width, height))).astype(int)
    others = np.delete(boxes, number, axis=0)
    if right - left < 2 or bottom - top < 2 or (hidden_shares(others, (left, top, right, bottom)) > MOST_SHARED).any():
        return None
    points = keypoints.astype(np.float32).copy()
    points[:, :2] -= (left, top)
    return Cutout(
        image[top:bottom, left:right].copy(),
        label["cls"][number : number + 1].astype(np.float32),
        (boxes[number] - (left, top, left, top)).astype(np.float32),
        points,
    )


def resize(cutout: Cutout, factor: float) -> Cutout:
    """Make a cutout larger or smaller."""
    height, width = cutout.image.shape[:2]
    size = max(2, round(width * factor)), max(2, round(height * factor))
    scale = np.array([size[0] / width, size[1] / height], dtype=np.float32)
    points = cutout.keypoints.copy()
    points[:, :2] *= scale
    image = cv2.resize(cutout.image, size, interpolation=cv2.INTER_LINEAR).reshape(size[1], size[0], -1)
    return Cutout(image, cutout.cls, cutout.box_xyxy * np.tile(scale, 2), points)


def hidden_shares(boxes_xyxy: NDArray[Any], window_xyxy: Any) -> NDArray[np.float64]:
    """Return which share of each box lies in a window, float64 (n_boxes,)."""
    boxes, window = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4), np.asarray(window_xyxy, dtype=np.float64)
    sides = np.minimum(boxes[:, 2:], window[2:]) - np.maximum(boxes[:, :2], window[:2])
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.asarray(np.prod(np.clip(sides, 0, None), axis=1) / np.maximum(area, 1e-9))


def fade(cutout: Cutout) -> NDArray[np.float32]:
    """Return how opaque a cutout is, float32 (height, width): 1 in the box, falling to 0 at the edge of the margin."""
    height, width = cutout.image.shape[:2]
    left, top, right, bottom = cutout.box_xyxy
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5

    def ramp(places: NDArray[Any], low: float, high: float, end: int) -> NDArray[Any]:
        rising = places / max(low, 1.0) if low > 0 else np.ones_like(places)
        falling = (end - places) / max(end - high, 1.0) if high < end else np.ones_like(places)
        return np.clip(np.minimum(rising, falling), 0, 1)

    return np.outer(ramp(rows, top, bottom, height), ramp(columns, left, right, width)).astype(np.float32)


def paste(
    image: NDArray[np.uint8],
    boxes_xyxy: NDArray[Any],
    keypoints: NDArray[Any],
    cutout: Cutout,
    left_top: tuple[int, int],
) -> tuple[NDArray[np.uint8], NDArray[Any], Instances] | None:
    """Paste a cutout at a place.

    Args:
        image: uint8 (height, width, 3); it stays as it is.
        boxes_xyxy: of the objects on it, pixels.
        keypoints: theirs, (n_objects, n_slots, 3).
        cutout: what is pasted.
        left_top: where its upper left corner comes to lie; may be outside.

    Returns:
        The new image, the keypoints of the objects on it with visibility 1 where they are hidden now, and the new
        object. None where an object would be hidden by more than ``MOST_HIDDEN``, or less than half of the new one be
        on the image.
    """
    height, width = image.shape[:2]
    shift = np.array(left_top, dtype=np.float32)
    box = cutout.box_xyxy + np.tile(shift, 2)
    if hidden_shares(box, (0, 0, width, height))[0] < 1 - MOST_HIDDEN:
        return None
    if (hidden_shares(boxes_xyxy, box) > MOST_HIDDEN).any():
        return None
    left, top = left_top
    rows = slice(max(0, top), min(height, top + cutout.image.shape[0]))
    columns = slice(max(0, left), min(width, left + cutout.image.shape[1]))
    part = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    opacity = fade(cutout)
    made = image.copy()
    share = opacity[part][..., None]
    mixed = share * cutout.image[part] + (1 - share) * image[rows, columns]
    made[rows, columns] = np.rint(mixed).astype(np.uint8)
    seen = keypoints.copy()
    place = np.floor(seen[..., :2]).astype(int)
    inside = ((place >= (columns.start, rows.start)) & (place < (columns.stop, rows.stop))).all(-1)
    x, y = (np.clip(place[..., axis] - left_top[axis], 0, opacity.shape[1 - axis] - 1) for axis in (0, 1))
    hidden = inside & (seen[..., 2] > 0) & (opacity[y, x] > _SOLID)
    seen[hidden, 2] = 1
    points = cutout.keypoints.copy()
    points[:, :2] += shift
    off = ((points[:, :2] < 0) | (points[:, :2] > (width, height))).any(1)
    points[off, 2] = 0
    new = Instances(
        np.clip(box, 0, np.tile((width, height), 2)).astype(np.float32)[None],
        np.zeros((0, 1000, 2), dtype=np.float32),
        points[None].astype(np.float32),
        bbox_format="xyxy",
        normalized=False,
    )
    return made, seen, new
