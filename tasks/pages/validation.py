"""The page about a validation: where the keypoints are off, on which images, and how sure the figures are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from keypipe.dataset.coco import CocoFile, to_images
from keypipe.drawing.colours import keypoint_colours
from keypipe.drawing.pictures import draw_comparison, encode_jpeg
from keypipe.evaluation.average_precision import RECALL_THRESHOLDS, MatchedScores, precision_curves
from keypipe.evaluation.bootstrap import FEW_UNITS, LEVEL, Intervals
from keypipe.evaluation.calibration import Calibration
from keypipe.evaluation.evaluation import Evaluation, describe_rule
from keypipe.evaluation.gallery import (
    ImageScore,
    choose_random,
    choose_worst,
    describe_score,
    find_typical_pose,
    score_images,
)
from keypipe.evaluation.keypoint_errors import (
    CLOSE_SHARE,
    PCK_SHARES,
    SIZE_LIMITS,
    Errors,
    KeypointError,
    pck_name,
)
from keypipe.evaluation.matching import MATCH_IOU, Detection
from keypipe.images.media import read_image
from keypipe.keypoints.boxes import Array
from keypipe.keypoints.instances import AnnotatedImage
from keypipe.keypoints.predictions import PredictedKeypoint, Prediction
from keypipe.keypoints.skeleton import Schema
from keypipe.report.page import (
    Cell,
    Chapter,
    Figure,
    Gallery,
    KeyValues,
    LineChart,
    LineCharts,
    Matrix,
    Note,
    Notes,
    Picture,
    Section,
    SkeletonDot,
    SkeletonPlot,
    SkeletonPlots,
    Table,
)

_PICTURE_PX = 480
_SWAPPED = 0.05  # share of a keypoint's predictions at its partner's place that is worth a warning
_KINDS = {
    "val": "the images by which the checkpoint was chosen, so its figures flatter",
    "test": "images that nothing was chosen by",
}


class Measured(msgspec.Struct):
    """What was measured on one split.

    Attributes:
        truth: its COCO file.
        detections: all of them, low scores included.
        evaluation: the figures.
        matched: by class what average precision is made of.
        intervals: how sure the figures are; None without resamples.
        calibration: what the keypoint confidence would be worth once calibrated; None where too little was found.
    """

    truth: CocoFile
    detections: list[Detection]
    evaluation: Evaluation
    matched: dict[str, MatchedScores]
    intervals: Intervals | None
    calibration: Calibration | None = None

    def counted(self) -> list[Detection]:
        """Return the detections whose score counts for everything but average precision."""
        return [item for item in self.detections if item.score >= self.evaluation.conf]

    def mean_precision(self) -> Array:
        """Return precision, mean over the classes that have objects, float64 (n_oks_thresholds, 101)."""
        curves = [curve for curve in map(precision_curves, self.matched.values()) if curve is not None]
        return np.mean(curves, axis=0) if curves else np.zeros((10, len(RECALL_THRESHOLDS)))


def describe_headline(measured: Mapping[str, Measured]) -> str:
    """Return the result in one line, splits beside each other."""
    splits = " / ".join(measured)
    ap50 = " / ".join(_show(item.evaluation.oks["AP50"]) for item in measured.values())
    close = " / ".join(_percent(item.evaluation.within) for item in measured.values())
    return f"{splits}: OKS AP50 {ap50}, close keypoints {close}"


def to_figures(measured: Mapping[str, Measured]) -> list[Figure]:
    """Return the figures that sum the page up, those of the held-out split first."""
    figures: list[Figure] = []
    for split, item in reversed(list(measured.items())):
        e = item.evaluation
        close = f"within {CLOSE_SHARE} box diagonals"
        figures += [
            Figure(f"{split}: OKS AP50", _show(e.oks["AP50"]), _bounds(item, "oks_AP50") or describe_rule(e)),
            Figure(
                f"{split}: close keypoints",
                _percent(e.within),
                ", ".join(filter(None, (close, _bounds(item, pck_name(CLOSE_SHARE), percent=True)))),
            ),
            Figure(f"{split}: median error", f"{_show(e.all_keypoints.median_px, 1)} px", f"of {e.instances} objects"),
        ]
    return figures


def to_sections(
    split: str,
    measured: Measured,
    theirs: Mapping[str, float],
    galleries: Mapping[str, Sequence[Picture]],
    schema: Schema,
) -> list[Section]:
    """Build a split's part of the page.

    Args:
        split: its name.
        measured: what was measured.
        theirs: Ultralytics' own figures.
        galleries: pictures of the ``worst`` and of ``random`` images.
        schema: for names, colours and edges.
    """
    e = measured.evaluation
    chapter = (
        f"{e.images} images with {e.instances} objects: {_KINDS[split]}. OKS: {describe_rule(e)}, at most"
        f" {e.max_detections} objects an image. Keypoint errors are those of detections of score {e.conf:g} and above"
        f" that cover an object with IoU {MATCH_IOU:g}; diagonals are those of the annotated boxes."
    )
    sections: list[Section] = [Chapter(f"On {split}", chapter)]
    notes = _warn(measured)
    sections += [Notes("Worth a look", notes)] if notes else []
    sections += [
        SkeletonPlots(
            "Where keypoints are off",
            _to_plots(measured, schema),
            "A real object that looks like most. The filled circle holds half of the predictions of a keypoint, the"
            " dotted one 95 of 100, both drawn as large as they are beside this box. Numbers: median error.",
        ),
        Gallery(
            "Worst images",
            galleries["worst"],
            "Mean OKS over the objects of the image, 0 for one that was not found and for one found where there is"
            " none. The red ring is around the keypoint that hurt most; red dashes are around objects not found.",
            min_width_px=420,
        ),
        Gallery("Random images", galleries["random"], "Drawn without regard to how they went: what to expect.", 420),
        _keypoint_table(e, schema),
        _group_table(e),
        LineCharts("Curves", _to_charts(measured)),
        _confusion(measured),
        _figures(measured, theirs),
    ]
    return sections


def _warn(measured: Measured) -> list[Note]:
    notes: list[Note] = []
    intervals = measured.intervals
    if intervals is not None and intervals.units < FEW_UNITS:
        notes.append(
            Note(
                "warning",
                f"{intervals.units} {intervals.unit}s are too few to know how sure these figures are: the intervals"
                f" are too narrow. Annotate more, in {FEW_UNITS} {intervals.unit}s at least.",
            )
        )
    swapped = [
        f"{error.class_name} {error.keypoint} ({error.swapped:.0%})"
        for error in measured.evaluation.keypoints
        if error.swapped is not None and error.swapped >= _SWAPPED
    ]
    if swapped:
        notes.append(
            Note(
                "warning",
                f"At their left/right partner's place: {', '.join(swapped)}. Look for exchanged names in the"
                " annotations with `keypipe doctor`; where there are none, train longer.",
            )
        )
    return notes


# ---------------------------------------------------------------------------------------- pictures


def draw_galleries(root: Path, measured: Measured, schema: Schema, count: int, seed: int) -> dict[str, list[Picture]]:
    """Draw the worst and some random images of a split.

    Args:
        root: the workspace.
        measured: what was measured.
        schema: for names, colours and edges.
        count: images of each kind.
        seed: of the random ones.

    Returns:
        Pictures by kind; an image that is of both kinds is drawn once.
    """
    e = measured.evaluation
    sigmas = {name: np.array(values) for name, values in e.sigmas.items()}
    scores = score_images(measured.truth, measured.counted(), sigmas, e.area_factor, area_rule=e.area_rule)
    images = to_images(measured.truth)
    by_image: dict[int, list[Detection]] = defaultdict(list)
    for detection in measured.counted():
        by_image[detection.image_id].append(detection)
    drawn: dict[int, Picture] = {}

    def draw(chosen: Iterable[ImageScore]) -> list[Picture]:
        pictures: list[Picture] = []
        for score in chosen:
            if score.index not in drawn:
                found = by_image[measured.truth.images[score.index].id]
                jpeg = _draw(root, images[score.index], found, score, schema, e.keypoint_conf)
                drawn[score.index] = Picture(jpeg, images[score.index].path, describe_score(score))
            pictures.append(drawn[score.index])
        return pictures

    return {"worst": draw(choose_worst(scores, count)), "random": draw(choose_random(scores, count, seed))}


def _draw(
    root: Path,
    image: AnnotatedImage,
    detections: Sequence[Detection],
    score: ImageScore,
    schema: Schema,
    keypoint_conf: float,
) -> bytes:
    pixels = np.ascontiguousarray(read_image(root / "data" / image.path)[..., ::-1])
    predictions = [to_prediction(detection, schema) for detection in detections]
    culprit = (score.culprit.true, score.culprit.predicted) if score.culprit else None
    drawn = draw_comparison(
        pixels,
        image.instances,
        predictions,
        schema,
        culprit=culprit,
        missed=score.missed_xyxy,
        keypoint_conf=keypoint_conf,
        longest_side_px=_PICTURE_PX,
    )
    return encode_jpeg(drawn)


def to_prediction(detection: Detection, schema: Schema) -> Prediction:
    """Give a detection its names."""
    name = schema.class_names[detection.category_id - 1]
    left, top, width, height = detection.bbox
    rows = np.array(detection.keypoints).reshape(-1, 3).tolist()
    keypoints = [PredictedKeypoint(kpt, *row) for kpt, row in zip(schema.classes[name].keypoints, rows, strict=True)]
    return Prediction(name, detection.score, (left, top, left + width, top + height), keypoints)


def _to_plots(measured: Measured, schema: Schema) -> list[SkeletonPlot]:
    colours = {name: "#{:02x}{:02x}{:02x}".format(*colour) for name, colour in keypoint_colours(schema).items()}
    plots: list[SkeletonPlot] = []
    for category in measured.truth.categories:
        pose = find_typical_pose(measured.truth, category.id)
        if pose is None:
            continue
        errors = {e.keypoint: e for e in measured.evaluation.keypoints if e.class_name == category.name}
        names = [name for name in category.keypoints if name in pose.points]
        dots = [
            SkeletonDot(
                name,
                pose.points[name],
                errors[name].median_diagonals,
                errors[name].p95_diagonals,
                "not found" if errors[name].median_px is None else f"{errors[name].median_px:.1f} px",
                colours[name],
            )
            for name in names
        ]
        edges = [
            (names.index(a), names.index(b))
            for a, b in schema.classes[category.name].edges
            if a in names and b in names
        ]
        title = category.name if len(measured.truth.categories) > 1 else ""
        plots.append(SkeletonPlot(title, pose.size, dots, edges))
    return plots


# ------------------------------------------------------------------------------------------ tables

_ERROR_COLUMNS = [
    "Labelled",
    "Missed %",
    "Median px",
    "95th px",
    "Median diag.",
    "95th diag.",
    *(f"≤ {share:g} diag. %" for share in PCK_SHARES),
    "OKS",
    "Swapped %",
    "Unsure %",
    "ECE",
]

_ERROR_NOTE = (
    "Median and 95th percentile of the distance, in pixels and in diagonals of the box. Missed: the object was not"
    " found. ≤ 0.1 diag. (PCK): share of the labelled keypoints within a tenth of the box's"
    " diagonal; those of objects that were not found count as not. OKS: mean of the keypoint's term, 0 when missed."
    " Swapped: nearer to its left/right partner's place than to its own. Unsure: found with a confidence below {:g}."
    " ECE: how far the confidence is from the share that is labelled, see the curve below."
)


def _error_cells(errors: Errors) -> list[Cell]:
    return [
        errors.labelled,
        _hundred(errors.missed),
        _round(errors.median_px, 1),
        _round(errors.p95_px, 1),
        _round(errors.median_diagonals, 3),
        _round(errors.p95_diagonals, 3),
        *(_hundred(errors.pck[f"{share:g}"]) for share in PCK_SHARES),
        _round(errors.similarity, 3),
        _hundred(errors.swapped),
        _hundred(errors.unsure),
        _round(errors.ece, 3),
    ]


def _keypoint_table(e: Evaluation, schema: Schema) -> Table:
    def name(error: KeypointError) -> list[Cell]:
        return [error.keypoint] if len(schema.classes) == 1 else [error.class_name, error.keypoint]

    columns = ["Keypoint"] if len(schema.classes) == 1 else ["Class", "Keypoint"]
    rows = [[*name(error), *_error_cells(error)] for error in e.keypoints]
    note = _ERROR_NOTE.format(e.keypoint_conf)
    return Table("Keypoints", [*columns, *_ERROR_COLUMNS], rows, note)


def _group_table(e: Evaluation) -> Table:
    small, medium = (round(limit**0.5) for limit in SIZE_LIMITS)
    rows: list[list[Cell]] = [["all", "", *_error_cells(e.all_keypoints)]]
    rows += [[group.kind, group.name, *_error_cells(group)] for group in e.groups]
    note = (
        f"Sizes as COCO has them, by the area that OKS takes: small below {small}² pixels, medium below {medium}²,"
        " large from there on."
    )
    return Table("By class, size and visibility", ["Of", "", *_ERROR_COLUMNS], rows, note)


def _describe_calibration(calibration: Calibration | None) -> str:
    if calibration is None:
        return ""
    return (
        f" Isotonic regression, measured on images left out, would make it {_show(calibration.ece_labelled)}"
        f" (labelled), {_show(calibration.ece_close)} (close)."
    )


def _to_charts(measured: Measured) -> list[LineChart]:
    precision = measured.mean_precision()
    r = measured.evaluation.reliability
    ece = ", ".join(
        f"{_show(value)} ({what})" for what, value in (("labelled", r.ece_labelled), ("close", r.ece_close))
    )
    return [
        LineChart(
            "Precision at each recall",
            RECALL_THRESHOLDS.tolist(),
            {"OKS ≥ 0.5": precision[0].tolist(), "OKS ≥ 0.75": precision[5].tolist()},
            "recall",
            (0.0, 1.0),
            "Of the objects, how many are found (recall), and how many of the detections up to there are right.",
        ),
        LineChart(
            "Keypoint confidence kept",
            r.middles(),
            {"labelled": r.labelled, f"within {CLOSE_SHARE:g} diag.": r.close, "as it says": r.middles()},
            "confidence",
            (0.0, 1.0),
            "Of the keypoints with this confidence, the share that is labelled, which is what the network was taught,"
            f" and the share that is also close. Expected calibration error: {ece}; 0 is best."
            f"{_describe_calibration(measured.calibration)}",
        ),
    ]


def _confusion(measured: Measured) -> Matrix:
    names = [category.name for category in measured.truth.categories]
    counts: list[list[int | None]] = [list(row) for row in measured.evaluation.confusion]
    counts[-1][-1] = None  # nothing that was not found: no number says how often that was right
    return Matrix(
        "What objects were taken for",
        [*names, "no object"],
        [*names, "not found"],
        counts,
        "annotated ↓  found →",
        "Boxes that overlap by half, whatever their class. The last row counts detections where nothing is annotated.",
        shaded_rows=len(names),
    )


def _figures(measured: Measured, theirs: Mapping[str, float]) -> KeyValues:
    e = measured.evaluation

    def with_bounds(name: str, text: str, *, percent: bool = False) -> str:
        bounds = _bounds(measured, name, percent=percent)
        return f"{text}\n{bounds}" if bounds else text

    rows: list[tuple[str, Cell]] = [
        *(
            (f"OKS {name.replace('_', ', ')} (COCO)", with_bounds(f"oks_{name}", _show(value)))
            for name, value in e.oks.items()
        ),
        *(
            (
                f"Keypoints within {share:g} diagonals",
                with_bounds(pck_name(share), _percent(e.all_keypoints.pck[f"{share:g}"]), percent=True),
            )
            for share in PCK_SHARES
        ),
        ("Objects detected", _percent(e.detected)),
        *((f"{name.replace('/', ' ')} (Ultralytics)", _show(value)) for name, value in sorted(theirs.items())),
    ]
    note = "Ultralytics measures on the resized image and with the loss sigmas: not comparable with the others."
    if measured.intervals is not None:
        i = measured.intervals
        note += f" Intervals: {LEVEL:.0%} of {i.resamples} samples of {i.units} {i.unit}s drawn with replacement."
    return KeyValues("Figures", rows, note)


def _bounds(measured: Measured, name: str, *, percent: bool = False) -> str:
    interval = measured.intervals.figures.get(name) if measured.intervals else None
    if interval is None:
        return ""
    show = _percent if percent else _show
    return f"{LEVEL:.0%}: {show(interval.low)} to {show(interval.high)}"


def _hundred(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 1)


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _show(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
