"""Two models on the same images: how their figures differ, and how much every group of images has to do with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.dataset.coco import CocoFile
from keypipe.errors import DatasetError
from keypipe.evaluation.average_precision import MatchedScores, average_precision, match_by_oks
from keypipe.evaluation.keypoint_errors import CLOSE_SHARE, KeypointTable, tabulate_keypoints
from keypipe.evaluation.matching import Detection, match_instances
from keypipe.evaluation.oks import AREA_FACTOR, AreaRule
from keypipe.gate.influence import ap_influence
from keypipe.keypoints.boxes import Array
from keypipe.splits.power import AP, CLOSE

_Figure = tuple[float, Array]
"""A figure, and float64 (n_images,), its derivative by the weight of each image."""


class Scored(msgspec.Struct, frozen=True):
    """What a model's predictions of the test images came to.

    Attributes:
        matched: each class after matching by OKS.
        tables: the keypoints of every class.
    """

    matched: Mapping[str, MatchedScores]
    tables: Sequence[KeypointTable]


def score(
    truth: CocoFile,
    detections: Sequence[Detection],
    sigmas: Mapping[str, Array],
    conf: float,
    area_factor: float = AREA_FACTOR,
    *,
    area_rule: AreaRule = "box",
) -> Scored:
    """Match a model's predictions with the truth, as the evaluation does.

    Args:
        truth: COCO file of the test images, the same for every model.
        detections: all of them, low scores included.
        sigmas: per class name, one value per keypoint.
        conf: score from which a detection counts for the keypoint errors.
        area_factor: share of the box's area that stands for the object's, under the rule ``box``.
        area_rule: what the object's area is.
    """
    counted = [item for item in detections if item.score >= conf]
    return Scored(
        match_by_oks(truth, detections, sigmas, area_factor, area_rule=area_rule),
        tabulate_keypoints(truth, match_instances(truth, counted), sigmas, area_factor, area_rule=area_rule),
    )


class Measures(msgspec.Struct, frozen=True):
    """The figures of one model by name, and how much each group pulls at them.

    Attributes:
        names: ``oks_AP``, ``within_0.1_diagonals``, then ``CLASS`` (its OKS AP) where there are several, then
            ``CLASS KEYPOINT`` (its close share).
        values: float64 (n_figures,).
        pulls: float64 (n_groups, n_figures): the derivative by the group's weight; the sum of a column is 0.
    """

    names: tuple[str, ...]
    values: Array
    pulls: Array


class Units(msgspec.Struct, frozen=True):
    """What is drawn: groups of images, or images where there are no groups.

    Attributes:
        name: ``image`` or ``group``.
        of_image: intp (n_images,), the number of each image's unit.
        count: how many there are.
    """

    name: str
    of_image: NDArray[np.intp]
    count: int


def number_units(units: Sequence[str], name: str = "image") -> Units:
    """Number the units.

    Args:
        units: for each image the unit that it belongs to.
        name: what a unit is called.
    """
    names, of_image = np.unique(np.asarray(units, dtype=object).astype(str), return_inverse=True)
    return Units(name, of_image.astype(np.intp), len(names))


def measure(scored: Scored, units: Units) -> Measures:
    """Measure a model.

    Args:
        scored: its predictions, matched.
        units: of the images.

    Returns:
        The figures that can be measured: a class without an object and a keypoint without a label are left out.

    Raises:
        DatasetError: no image holds an object with a labelled keypoint.
    """
    classes = {name: figure for name, scores in scored.matched.items() if (figure := _to_ap(scores)) is not None}
    counts = {
        f"{table.category.name} {keypoint}": columns
        for table in scored.tables
        for keypoint, columns in zip(table.category.keypoints, _count_close(table, len(units.of_image)), strict=True)
    }
    counts = {name: columns for name, columns in counts.items() if columns[1].any()}
    if not classes or not counts:
        raise DatasetError("the test images hold no object with a labelled keypoint; nothing can be compared on them")
    figures: dict[str, _Figure] = {
        AP: (
            float(np.mean([value for value, _ in classes.values()])),
            np.mean([pull for _, pull in classes.values()], 0),
        ),
        CLOSE: _to_share(np.sum(list(counts.values()), 0)),
        **(classes if len(classes) > 1 else {}),
        **{name: _to_share(columns) for name, columns in counts.items()},
    }
    return Measures(
        tuple(figures),
        np.array([value for value, _ in figures.values()]),
        np.stack([np.bincount(units.of_image, pull, units.count) for _, pull in figures.values()], 1),
    )


def _to_ap(scores: MatchedScores) -> _Figure | None:
    pull = ap_influence(scores)
    return None if pull is None else (float(average_precision(scores).mean()), pull)


def _count_close(table: KeypointTable, n_images: int) -> Array:
    """Count each keypoint's close and labelled ones by image, float64 (n_keypoints, 2, n_images)."""
    n_keypoints = len(table.category.keypoints)
    place = (table.image[:, None] * n_keypoints + np.arange(n_keypoints)).ravel()
    masks = (table.distance_diagonals <= CLOSE_SHARE, table.visibility > 0)
    counts = [np.bincount(place, mask.ravel(), n_images * n_keypoints).reshape(n_images, -1).T for mask in masks]
    return np.stack(counts, 1)


def _to_share(counts: Array) -> _Figure:
    close, labelled = counts
    total = labelled.sum()
    share = float(close.sum() / total)
    return share, (close - share * labelled) / total


class Comparison(msgspec.Struct, frozen=True):
    """How a challenger differs from a reference on the same images.

    Attributes:
        names: the figures that both have.
        reference: float64 (n_figures,), the reference's figures.
        challenger: float64 (n_figures,), the challenger's.
        pulls: float64 (n_groups, n_figures), how much each group pulls at the differences.
    """

    names: tuple[str, ...]
    reference: Array
    challenger: Array
    pulls: Array

    @property
    def differences(self) -> Array:
        """Challenger less reference, float64 (n_figures,)."""
        return np.asarray(self.challenger - self.reference)

    def shares(self) -> Array:
        """What each group has to do with each difference, float64 (n_groups, n_figures); they add up to it."""
        return np.asarray(self.pulls + self.differences / len(self.pulls))


def compare(challenger: Measures, reference: Measures) -> Comparison:
    """Compare two models that were measured on the same images and groups."""
    names = tuple(name for name in challenger.names if name in reference.names)
    mine, other = ([item.names.index(name) for name in names] for item in (challenger, reference))
    return Comparison(
        names,
        reference.values[other],
        challenger.values[mine],
        challenger.pulls[:, mine] - reference.pulls[:, other],
    )
