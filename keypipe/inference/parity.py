"""Whether models of the same weights say the same: exported ones against the one they came from."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.inference.letterbox import Placement
from keypipe.inference.model_info import ModelInfo
from keypipe.inference.postprocess import Detections
from keypipe.inference.predictor import Predictor, RawModel, Thresholds
from keypipe.keypoints.boxes import box_iou
from keypipe.keypoints.predictions import DEFAULT_MAX_DET

SAME_BOX_IOU = 0.5
"""Overlap from which two boxes of a class are the same object; how far they are apart is measured in pixels."""

SCORE_SLACK = 0.01
"""Detections this near the score threshold may be there for one model and not for the other."""

_CUT_SLACK = 1.001
"""A row whose score is so many times the lowest that an end-to-end model gives is given whatever is rounded."""

CANDIDATE_CONF = 0.001
"""Score from which a detection takes part in AP (Ultralytics' validator: ``conf=0.001``)."""

WORST = 10
"""How many keypoints are named as the ones that differ most."""


class Parity(msgspec.Struct):
    """Differences between a reference and another model over some images, in pixels of the images.

    Attributes:
        images: number of images.
        anchors: anchors compared: all of them whatever their score, so that a weak model is compared as well; of an
            end-to-end model the rows that it gives.
        anchors_max_px: largest distance between the two places of a keypoint, over all anchors.
        anchors_max_box_px: largest difference of a box's centre or size, of an end-to-end model of a side, over all
            anchors.
        anchors_max_confidence: largest difference of a class score or of a keypoint's confidence, over all anchors.
        objects: objects that the reference found.
        matched: those that the other model found as well.
        unmatched: objects found by one of the two only, those at the score threshold not counted.
        max_px: largest distance between the two places of a keypoint of a matched object; None without any.
        p99_px: 99th percentile of the same.
        median_px: median of the same.
        p99_diagonals: 99th percentile of the distances in diagonals of the reference's boxes.
        max_box_px: largest difference of a corner's coordinate of a matched object's box.
    """

    images: int
    anchors: int
    anchors_max_px: float
    anchors_max_box_px: float
    anchors_max_confidence: float
    objects: int
    matched: int
    unmatched: int
    max_px: float | None
    p99_px: float | None
    median_px: float | None
    p99_diagonals: float | None
    max_box_px: float | None


class Difference(msgspec.Struct, frozen=True, order=True):
    """One keypoint that two models place differently, in pixels of the image."""

    px: float
    image: str
    class_name: str
    keypoint: str
    reference_xy: tuple[float, float]
    other_xy: tuple[float, float]


class Comparison(msgspec.Struct):
    """What a model said over some images, and how far that is from the reference.

    Attributes:
        detections: for each image what was found with a score above ``CANDIDATE_CONF``, in pixels of the image.
        parity: the differences.
        worst: the keypoints of matched objects that differ most, the worst first.
    """

    detections: list[Detections]
    parity: Parity
    worst: list[Difference]


def compare_models(
    reference: RawModel,
    others: Mapping[str, RawModel],
    info: ModelInfo,
    images: Iterable[tuple[str, NDArray[np.uint8]]],
    conf: float,
    max_det: int = DEFAULT_MAX_DET,
) -> tuple[list[Detections], dict[str, Comparison]]:
    """Run models on the same images, with the same code before and after them, and compare what they say.

    Args:
        reference: the model that is right by definition.
        others: the models to compare, by name.
        info: classes, keypoints and input size of all of them.
        images: name and pixels, uint8 (height, width, 3), BGR, of each image; at least one.
        conf: score from which an object counts as found.
        max_det: detections kept on an image at most.

    Returns:
        What the reference found on each image, as in ``Comparison.detections``; and for each other its comparison.

    Raises:
        ModelError: an output does not fit the classes and keypoints.
    """
    predictor = Predictor(reference, info)
    meters = {name: _Meter(info, conf) for name in others}
    candidates = Thresholds(min(CANDIDATE_CONF, conf), max_det=max_det)
    found: list[Detections] = []
    for name, pixels in images:
        tensor, placement = predictor.prepare(pixels)
        raw = reference(tensor)[0]
        found.append(predictor.finish(raw, placement, candidates))
        for other, model in others.items():
            other_raw = model(tensor)[0]
            other_found = predictor.finish(other_raw, placement, candidates)
            meters[other].add_anchors(raw, other_raw, placement)
            meters[other].add_objects(name, found[-1], other_found)
    return found, {name: meter.result() for name, meter in meters.items()}


class _Meter:
    """Gathers the differences of one model, image by image; anchors leave no more than their maxima."""

    def __init__(self, info: ModelInfo, conf: float) -> None:
        self._info = info
        self._conf = conf
        self._slots = {index: info.schema.slot_indices(name) for index, name in enumerate(info.class_names)}
        self._detections: list[Detections] = []
        self._anchors = self._objects = self._matched = self._unmatched = 0
        self._anchors_px = self._anchors_box_px = self._anchors_confidence = 0.0
        self._keypoints_px: list[NDArray[np.float64]] = []
        self._diagonals: list[NDArray[np.float64]] = []
        self._boxes_px: list[NDArray[np.float64]] = []
        self._worst: list[Difference] = []

    def add_anchors(self, first: NDArray[np.float32], second: NDArray[np.float32], placement: Placement) -> None:
        """Compare two raw outputs, as ``RawModel`` gives them for an image."""
        n_classes = len(self._info.class_names)
        if self._info.end2end:
            self._anchors += len(first)
            first, second = (rows.T for rows in pair_rows(first, second))
            first, second = (np.delete(columns, 5, 0) for columns in (first, second))  # pairs are of a class
            n_classes = 1
        else:
            self._anchors += first.shape[1]
        delta = np.abs(first.astype(np.float64) - second.astype(np.float64))
        gain = placement.resized_wh[0] / placement.image_wh[0]
        points = delta[4 + n_classes :].reshape(-1, 3, delta.shape[1])
        self._anchors_px = _largest(self._anchors_px, np.hypot(points[:, 0], points[:, 1]).max() / gain)
        self._anchors_box_px = _largest(self._anchors_box_px, delta[:4].max() / gain)
        scores = max(delta[4 : 4 + n_classes].max(), points[:, 2].max())
        self._anchors_confidence = _largest(self._anchors_confidence, scores)

    def add_objects(self, image: str, first: Detections, second: Detections) -> None:
        """Compare what two models found on an image."""
        self._detections.append(second)
        one, two = (found.take(np.flatnonzero(found.scores > self._conf)) for found in (first, second))
        rows, columns = match_detections(one, two)
        self._objects += len(one)
        self._matched += len(rows)
        self._unmatched += count_unmatched(one, two, self._conf)
        matched = one.take(rows), two.take(columns)
        self._boxes_px.append(np.abs(matched[0].boxes_xyxy.astype(float) - matched[1].boxes_xyxy).ravel())
        for index in range(len(rows)):
            self._add_keypoints(image, matched[0].take(np.array([index])), matched[1].take(np.array([index])))

    def _add_keypoints(self, image: str, first: Detections, second: Detections) -> None:
        class_id = int(first.class_ids[0])
        class_name = self._info.class_names[class_id]
        one, two = (found.keypoints[0, self._slots[class_id], :2].astype(float) for found in (first, second))
        distances = np.hypot(*(one - two).T)
        width, height = (first.boxes_xyxy[0, 2:] - first.boxes_xyxy[0, :2]).astype(float)
        self._keypoints_px.append(distances)
        self._diagonals.append(distances / max(np.hypot(width, height), 1.0))
        names = self._info.schema.classes[class_name].keypoints
        for index in np.argsort(-distances)[:WORST]:
            places = [(float(xy[index, 0]), float(xy[index, 1])) for xy in (one, two)]
            difference = Difference(float(distances[index]), image, class_name, names[index], *places)
            self._worst = heapq.nlargest(WORST, [*self._worst, difference])

    def result(self) -> Comparison:
        """Sum up."""
        keypoints, diagonals, boxes = (
            np.concatenate(parts or [np.empty(0)]) for parts in (self._keypoints_px, self._diagonals, self._boxes_px)
        )
        parity = Parity(
            images=len(self._detections),
            anchors=self._anchors,
            anchors_max_px=self._anchors_px,
            anchors_max_box_px=self._anchors_box_px,
            anchors_max_confidence=self._anchors_confidence,
            objects=self._objects,
            matched=self._matched,
            unmatched=self._unmatched,
            max_px=float(keypoints.max()) if keypoints.size else None,
            p99_px=float(np.percentile(keypoints, 99)) if keypoints.size else None,
            median_px=float(np.median(keypoints)) if keypoints.size else None,
            p99_diagonals=float(np.percentile(diagonals, 99)) if keypoints.size else None,
            max_box_px=float(boxes.max()) if boxes.size else None,
        )
        return Comparison(self._detections, parity, self._worst)


def pair_rows(first: NDArray[np.float32], second: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Pair the rows that two end-to-end models give for an image, each with the nearest of its class.

    They come by score, and where scores are about equal a rounding decides on their order, and on which is the last
    that is given. So a row counts wherever it stands, and those with the last one's score need no partner.

    Args:
        first: float32 (n_found, 6 + 3 * n_slots), of one model; see ``RawModel``.
        second: of the other.

    Returns:
        float32 (n_pairs, 6 + 3 * n_slots) twice; every row of either is in it but those at the end.
    """
    pairs = [(row, _nearest(row, second)) for row in _settled(first, second)]
    pairs += [(_nearest(row, first), row) for row in _settled(second, first)]
    one, two = (np.array([pair[side] for pair in pairs], dtype=np.float32) for side in (0, 1))
    return one.reshape(-1, first.shape[1]), two.reshape(-1, first.shape[1])


def _settled(rows: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows that the other model has to give as well, whatever is rounded; all where that is none."""
    cut = max(rows[-1, 4], others[-1, 4])
    settled = rows[~(rows[:, 4] <= cut * _CUT_SLACK)]  # a score that is no number stays
    return settled if len(settled) else rows


def _nearest(row: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the row of the same class whose values differ least; one that is no number where there is none."""
    same = others[others[:, 5] == row[5]]
    if not len(same):
        return np.full_like(row, np.nan)
    nearest: NDArray[np.float32] = same[np.abs(same - row).max(axis=1).argmin()]
    return nearest


def _largest(so_far: float, value: float) -> float:
    """Return the larger of two, or NaN where the new one is: an output that is no number is no small difference."""
    return float("nan") if np.isnan(value) or np.isnan(so_far) else max(so_far, float(value))


def match_detections(first: Detections, second: Detections) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pair the objects that two models found on an image.

    The objects of the first choose in order of their score, each the free one of its class that it overlaps most.

    Args:
        first: what one model found, best score first.
        second: what the other found.

    Returns:
        intp (n_pairs,) twice: positions in the first and in the second.
    """
    overlap = box_iou(first.boxes_xyxy.astype(np.float64)[:, None], second.boxes_xyxy.astype(np.float64))
    overlap[first.class_ids[:, None] != second.class_ids[None]] = 0
    pairs: list[tuple[int, int]] = []
    for row in range(len(first) if len(second) else 0):
        column = int(overlap[row].argmax())
        if overlap[row, column] >= SAME_BOX_IOU:
            pairs.append((row, column))
            overlap[:, column] = 0
    rows, columns = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
    return rows, columns


def count_unmatched(first: Detections, second: Detections, conf: float) -> int:
    """Count the objects that only one of two models found.

    Args:
        first: what one model found on an image.
        second: what the other found on it.
        conf: score threshold of both; objects within ``SCORE_SLACK`` of it do not count.
    """
    taken = match_detections(first, second)
    return sum(
        int((np.delete(found.scores, rows) > conf + SCORE_SLACK).sum())
        for found, rows in zip((first, second), taken, strict=True)
    )
