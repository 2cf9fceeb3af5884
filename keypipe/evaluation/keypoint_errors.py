"""How far off the keypoints are, and how far their confidence can be trusted: by keypoint, class, size, visibility.

Detections are matched with true objects by box (``keypipe.evaluation.matching``), so that a keypoint's error is
measured however large it is. Diagonals are those of the true boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.dataset.coco import CocoAnnotation, CocoCategory, CocoFile
from keypipe.evaluation.matching import Detection
from keypipe.evaluation.oks import AREA_FACTOR, AreaRule, keypoint_distances, keypoint_similarities, object_areas
from keypipe.keypoints.boxes import Array
from keypipe.keypoints.skeleton import find_pairs

CLOSE_SHARE = 0.1
"""Distance up to which a keypoint counts as close, and as being at its partner's place, in box diagonals."""

PCK_SHARES = (0.05, 0.1, 0.2)

SIZES = ("small", "medium", "large")
SIZE_LIMITS = (32.0**2, 96.0**2)
"""Areas, square pixels, from which an object is medium and large (https://cocodataset.org/#keypoints-eval)."""

N_BINS = 10

Pairs = Mapping[str, Sequence[tuple[str, str]]]
Mask = NDArray[np.bool_]


class Errors(msgspec.Struct, kw_only=True):
    """The errors of some keypoints. Shares are None where there is nothing to take a share of.

    Attributes:
        labelled: labelled keypoints in the truth.
        found: those whose object was detected.
        missed: share of the labelled ones whose object was not detected.
        unsure: share of the found ones whose confidence is below the threshold from which keypoints are shown.
        median_px: median distance over the found ones, pixels.
        p95_px: 95th percentile of it.
        median_diagonals: median distance in diagonals of the true box.
        p95_diagonals: 95th percentile of it.
        pck: share of the labelled ones within so many diagonals; those of missed objects count as not.
        within: the same within ``CLOSE_SHARE`` diagonals.
        similarity: mean OKS term ``exp(-d**2 / (2 * area * (2 * sigma)**2))`` over the labelled ones; 0 for missed.
        swapped: share of the found ones with a labelled partner that lie nearer to the partner's true place than to
            their own, and within ``CLOSE_SHARE`` diagonals of it.
        ece: expected calibration error of their confidence, see ``Reliability``; None for groups by visibility, whose
            keypoints are labelled all of them.
    """

    labelled: int
    found: int
    missed: float | None
    unsure: float | None
    median_px: float | None
    p95_px: float | None
    median_diagonals: float | None
    p95_diagonals: float | None
    pck: dict[str, float | None]
    within: float | None
    similarity: float | None
    swapped: float | None
    ece: float | None


class KeypointError(Errors, kw_only=True):
    """The errors of one keypoint of one class."""

    class_name: str
    keypoint: str


class GroupError(Errors, kw_only=True):
    """The errors of a group of keypoints: of one class, of objects of one size, or of one visibility.

    Attributes:
        kind: what the group has in common.
        name: class, ``small``, ``medium`` or ``large``, ``visible`` or ``occluded``.
    """

    kind: Literal["class", "size", "visibility"]
    name: str


class Reliability(msgspec.Struct):
    """How well the keypoint confidence keeps its word, over all keypoints of detected objects.

    The network is taught whether a keypoint is labelled; people read its confidence as "the point is right".

    Attributes:
        edges: of the bins of confidence, one more than there are bins.
        count: keypoints in each bin.
        confidence: their mean confidence.
        labelled: share of them that are labelled in the truth.
        close: share of them that are labelled and within ``CLOSE_SHARE`` diagonals.
        ece_labelled: expected calibration error: mean of abs(confidence - labelled) over the bins, weighted by count
            (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).
        ece_close: the same for ``close``.
    """

    edges: list[float]
    count: list[int]
    confidence: list[float | None]
    labelled: list[float | None]
    close: list[float | None]
    ece_labelled: float | None
    ece_close: float | None

    def middles(self) -> list[float]:
        """Return the middle of each bin."""
        return [(low + high) / 2 for low, high in pairwise(self.edges)]


class KeypointTable(msgspec.Struct):
    """Every keypoint of every true object of one class, labelled or not, as arrays (n_objects, n_keypoints).

    Attributes:
        category: the class.
        image: intp (n_objects,), position of the object's image among the images.
        size: intp (n_objects,), position in ``SIZES``.
        visibility: 0, 1 or 2.
        found: bool (n_objects,), whether the object was detected.
        distance_px: distance of the prediction from the truth; NaN where not labelled or not found.
        distance_diagonals: the same in diagonals of the true box.
        similarity: OKS term; NaN where not labelled, 0 where not found.
        confidence: of the predicted keypoint; NaN where not found.
        swappable: whether it could be told that it is at its partner's place: found, labelled, and so is its partner.
        swapped: whether it is.
    """

    category: CocoCategory
    image: NDArray[np.intp]
    size: NDArray[np.intp]
    visibility: NDArray[np.int64]
    found: Mask
    distance_px: Array
    distance_diagonals: Array
    similarity: Array
    confidence: Array
    swappable: Mask
    swapped: Mask


def tabulate_keypoints(
    truth: CocoFile,
    matches: Sequence[tuple[CocoAnnotation, Detection]],
    sigmas: Mapping[str, Array],
    area_factor: float = AREA_FACTOR,
    *,
    area_rule: AreaRule = "box",
    pairs: Pairs | None = None,
) -> list[KeypointTable]:
    """Compare every true keypoint with its prediction.

    Args:
        truth: COCO file.
        matches: true objects and their detections.
        sigmas: per class name, one value per keypoint.
        area_factor: share of the box's area that stands for the object's.
        area_rule: what the object's area is.
        pairs: by class name the left/right pairs; None: those that the names tell.

    Returns:
        A table for each class, in the file's order.
    """
    position = {image.id: index for index, image in enumerate(truth.images)}
    detection_of = {annotation.id: detection for annotation, detection in matches}
    tables: list[KeypointTable] = []
    for category in truth.categories:
        objects = [item for item in truth.annotations if item.category_id == category.id]
        n_keypoints = len(category.keypoints)
        true = np.array([item.keypoints for item in objects], dtype=np.float64).reshape(-1, n_keypoints, 3)
        nothing = [np.nan] * (3 * n_keypoints)
        found = np.array([item.id in detection_of for item in objects], dtype=bool)
        rows = [detection_of[item.id].keypoints if item.id in detection_of else nothing for item in objects]
        predicted = np.array(rows, dtype=np.float64).reshape(-1, n_keypoints, 3)
        diagonal = np.array([np.hypot(*item.bbox[2:]) for item in objects]).reshape(-1, 1)
        areas = object_areas(objects, area_rule, area_factor)
        labelled = true[..., 2] > 0
        similarity = keypoint_similarities(true, predicted, areas, sigmas[category.name])
        distance = keypoint_distances(true, predicted)
        class_pairs = find_pairs(category.keypoints) if pairs is None else pairs[category.name]
        swappable, swapped = _find_swapped(category, class_pairs, true, predicted, diagonal)
        tables.append(
            KeypointTable(
                category,
                np.array([position[item.image_id] for item in objects], dtype=np.intp),
                np.searchsorted(SIZE_LIMITS, areas, side="right"),
                true[..., 2].astype(np.int64),
                found,
                distance,
                distance / diagonal,
                np.where(labelled & ~found[:, None], 0.0, similarity),
                predicted[..., 2],
                swappable,
                swapped,
            )
        )
    return tables


def _find_swapped(
    category: CocoCategory, pairs: Sequence[tuple[str, str]], true: Array, predicted: Array, diagonal: Array
) -> tuple[Mask, Mask]:
    """Tell which keypoints are at the place of their partner.

    An inversion in M. Ronchi and P. Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation", 2017.
    """
    partner = np.arange(len(category.keypoints))
    for names in pairs:
        first, second = (category.keypoints.index(name) for name in names)
        partner[[first, second]] = second, first
    labelled = true[..., 2] > 0
    own = keypoint_distances(true, predicted)
    other = keypoint_distances(true[:, partner], predicted)
    paired = partner != np.arange(len(partner))
    swappable = paired & labelled & labelled[:, partner] & np.isfinite(own)
    return swappable, swappable & (other < own) & (other <= CLOSE_SHARE * diagonal)


def summarise_keypoints(tables: Sequence[KeypointTable], keypoint_conf: float) -> list[KeypointError]:
    """Return the errors of each keypoint of each class."""
    errors: list[KeypointError] = []
    for table in tables:
        for index, name in enumerate(table.category.keypoints):
            chosen = np.zeros(table.visibility.shape, dtype=bool)
            chosen[:, index] = True
            figures = _figures([table], [chosen], keypoint_conf)
            errors.append(KeypointError(class_name=table.category.name, keypoint=name, **_fields(figures)))
    return errors


def summarise_groups(tables: Sequence[KeypointTable], keypoint_conf: float) -> list[GroupError]:
    """Return the errors by class, by size of the object and by visibility; groups without a keypoint are left out."""
    every = [np.ones(table.visibility.shape, dtype=bool) for table in tables]
    groups: list[tuple[Literal["class", "size", "visibility"], str, list[Mask]]] = [
        ("class", table.category.name, [mask & (table is other) for other, mask in zip(tables, every, strict=True)])
        for table in tables
    ]
    for index, name in enumerate(SIZES):
        of_size = [mask & (table.size == index)[:, None] for table, mask in zip(tables, every, strict=True)]
        groups.append(("size", name, of_size))
    for visibility, name in ((2, "visible"), (1, "occluded")):
        groups.append(("visibility", name, [table.visibility == visibility for table in tables]))
    summaries = [
        GroupError(kind=kind, name=name, **_fields(_figures(tables, masks, keypoint_conf, kind != "visibility")))
        for kind, name, masks in groups
    ]
    return [summary for summary in summaries if summary.labelled]


def summarise_all(tables: Sequence[KeypointTable], keypoint_conf: float) -> Errors:
    """Return the errors of all keypoints together."""
    return _figures(tables, [np.ones(table.visibility.shape, dtype=bool) for table in tables], keypoint_conf)


def _fields(figures: Errors) -> dict[str, Any]:
    return {name: getattr(figures, name) for name in Errors.__struct_fields__}


def _figures(
    tables: Sequence[KeypointTable], masks: Sequence[Mask], keypoint_conf: float, calibrate: bool = True
) -> Errors:
    """Pool the labelled keypoints that the masks choose, one mask a table."""
    chosen = [mask & (table.visibility > 0) for table, mask in zip(tables, masks, strict=True)]

    def pool(name: str) -> Array:
        parts = [getattr(table, name)[mask] for table, mask in zip(tables, chosen, strict=True)]
        return np.concatenate([np.empty(0), *parts])

    pixels, diagonals, similarity = pool("distance_px"), pool("distance_diagonals"), pool("similarity")
    confidence, swappable, swapped = pool("confidence"), pool("swappable"), pool("swapped")
    labelled, found = len(pixels), int(np.isfinite(pixels).sum())
    pck = {f"{share:g}": _share(int((diagonals <= share).sum()), labelled) for share in PCK_SHARES}
    return Errors(
        labelled=labelled,
        found=found,
        missed=_share(labelled - found, labelled),
        unsure=_share(int((confidence < keypoint_conf).sum()), found),
        median_px=_percentile(pixels, 50),
        p95_px=_percentile(pixels, 95),
        median_diagonals=_percentile(diagonals, 50),
        p95_diagonals=_percentile(diagonals, 95),
        pck=pck,
        within=pck[f"{CLOSE_SHARE:g}"],
        similarity=float(similarity.mean()) if labelled else None,
        swapped=_share(int(swapped.sum()), int(swappable.sum())),
        ece=measure_reliability(tables, masks).ece_labelled if calibrate else None,
    )


def pck_name(share: float) -> str:
    """Return the metric name of the share of keypoints within so many box diagonals."""
    return f"within_{share:g}_diagonals"


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percentile(values: Array, percent: float) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, percent)) if finite.size else None


def measure_reliability(
    tables: Sequence[KeypointTable], masks: Sequence[Mask] | None = None, n_bins: int = N_BINS
) -> Reliability:
    """Compare the confidence of predicted keypoints with what became of them.

    Args:
        tables: all classes.
        masks: for each table the keypoints to look at; None: all of them.
        n_bins: bins of equal width over [0, 1].

    Returns:
        The reliability curve; empty bins are None.
    """
    rows = [np.repeat(table.found[:, None], table.visibility.shape[1], 1) for table in tables]
    if masks is not None:
        rows = [row & mask for row, mask in zip(rows, masks, strict=True)]
    confidence = np.concatenate([np.empty(0), *(t.confidence[r] for t, r in zip(tables, rows, strict=True))])
    labelled = np.concatenate([np.empty(0), *((t.visibility > 0)[r] for t, r in zip(tables, rows, strict=True))])
    near = [t.distance_diagonals <= CLOSE_SHARE for t in tables]
    close = np.concatenate([np.empty(0), *(n[r] for n, r in zip(near, rows, strict=True))])
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    bins = np.clip(np.digitize(confidence, edges[1:-1]), 0, n_bins - 1)
    count = np.bincount(bins, minlength=n_bins)

    def mean(values: Array) -> Array:
        sums = np.bincount(bins, weights=values, minlength=n_bins)
        return np.where(count > 0, sums / np.maximum(count, 1), np.nan)

    mean_confidence, share_labelled, share_close = mean(confidence), mean(labelled), mean(close)

    def error(share: Array) -> float | None:
        total = int(count.sum())
        return float(np.nansum(count * np.abs(mean_confidence - share)) / total) if total else None

    return Reliability(
        [round(float(edge), 12) for edge in edges],
        [int(value) for value in count],
        _to_list(mean_confidence),
        _to_list(share_labelled),
        _to_list(share_close),
        error(share_labelled),
        error(share_close),
    )


def _to_list(values: Array) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
