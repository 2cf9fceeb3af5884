"""Stage validate: what the trained model is worth on the val side and on the held-out test side."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import msgspec
import numpy as np
from pydantic import Field

from keypipe.annotation import AnnotatedImage
from keypipe.coco import CocoFile, to_images
from keypipe.drawing import draw_side_by_side, encode_jpeg
from keypipe.errors import ModelError
from keypipe.evaluation import CLOSE_SHARE, Detection, Evaluation, evaluate, flatten_figures
from keypipe.media import read_image
from keypipe.oks import AREA_FACTOR
from keypipe.prediction import PredictedKeypoint, Prediction
from keypipe.report import BarChart, Cell, Figure, Gallery, KeyValues, Picture, Report, Section, Table, render_report
from keypipe.skeleton import Schema
from keypipe.yolo import expand_sigmas
from tasks import params as read
from tasks import tracking
from tasks.dataset import VIEW, read_schema, read_side, read_sides, refresh_view
from tasks.detections import to_detections
from tasks.engine import inference as engine
from tasks.engine.settings import configure
from tasks.models import BEST, find_run, read_record
from tasks.stage import STATE, remove, replacing, run_program, say, write_json
from tasks.training_report import read_preflight, to_report

REPORT = Path("reports/validate")
METRICS = Path("metrics/validate.json")
SIDES = ("val", "test")
_PICTURES = 12
_PICTURE_PX = 480


class ValidateParams(read.Section):
    """The section ``validate`` of ``params.yaml``."""

    sigma: float | list[float] = 0.1
    area_factor: float = Field(default=AREA_FACTOR, gt=0, le=1)
    conf: float = Field(default=0.25, gt=0, lt=1)
    batch: int = Field(default=16, ge=1)
    imgsz: int | None = Field(default=None, ge=32)


def run(params: ValidateParams, local: read.Local, root: Path) -> None:
    """Validate the best weights on the sides that the model was not trained on.

    Args:
        params: the stage's parameters.
        local: settings of this machine.
        root: the workspace.

    Raises:
        PoseError: no weights, weights for another skeleton, or MLflow does not answer.
    """
    configure(root, local.threads)
    refresh_view(root)
    schema = read_schema(root)
    check_skeleton(engine.load_torch_model(root / BEST, "cpu")[1].schema, schema)
    sides = [side for side in SIDES if side in read_sides(root)]
    parent = find_run(root)
    with tracking.child_run(root, parent, "validate") as live:
        results = {side: _validate_side(params, local, root, side, schema) for side in sides}
        metrics = {side: result.metrics for side, result in results.items()}
        headline = _headline(results)
        summary = {"headline": headline, "sides": {side: r.evaluation for side, r in results.items()}}
        sections = [section for side, r in results.items() for section in _sections(root, side, r, schema)]
        page = render_report(Report("How good the model is", headline, sections, _figures(results), "validate"))
        with replacing(root, REPORT) as report, replacing(root, METRICS) as metrics_file:
            report.mkdir()
            write_json(report / "report.json", summary)
            (report / "report.html").write_text(page, encoding="utf-8")
            training = to_report(read_record(root), read_preflight(root))
            (report / "training.html").write_text(render_report(training), encoding="utf-8")
            for side, result in results.items():
                write_json(report / f"predictions_{side}.json", result.detections)
            write_json(metrics_file, metrics)
        flat = {
            f"{side}_{name}": value
            for side, figures in flatten_sides(metrics).items()
            for name, value in figures.items()
        }
        live.log_metrics(flat)
        parent.log_metrics(flat)
        live.log_files(root / REPORT, "reports/validate")
    say(f"validate: {headline}")


class SideResult(msgspec.Struct):
    """What one side gave: figures by name, the evaluation behind them, and every detection."""

    metrics: dict[str, dict[str, float]]
    evaluation: Evaluation
    detections: list[Detection]
    truth: CocoFile


def check_skeleton(found: Schema, wanted: Schema) -> None:
    """Refuse weights that were trained for other classes or keypoints.

    Raises:
        ModelError: says what differs.
    """
    if len(found.slots) != len(wanted.slots):
        raise ModelError(
            f"{BEST}: made for {len(found.slots)} keypoints ({', '.join(found.slots)}), the dataset has"
            f" {len(wanted.slots)} ({', '.join(wanted.slots)}); train again with `keypipe run`"
        )
    if found.class_names != wanted.class_names:
        raise ModelError(
            f"{BEST}: made for the classes {', '.join(found.class_names)}, the dataset has"
            f" {', '.join(wanted.class_names)}; train again with `keypipe run`"
        )


def _validate_side(params: ValidateParams, local: read.Local, root: Path, side: str, schema: Schema) -> SideResult:
    truth = read_side(root, side)
    scratch = root / STATE / "tmp" / "validate"
    machine = {"workers": 2 if local.workers is None else local.workers} | (
        {"device": local.device} if local.device is not None else {}
    )
    result = engine.validate(
        root / BEST,
        root.resolve() / VIEW / "data.yaml",
        side,
        machine,
        batch=params.batch,
        imgsz=params.imgsz,
        scratch=scratch.resolve(),
    )
    remove(scratch)
    detections = to_detections(result.predictions, truth, schema)
    sigmas = expand_sigmas(params.sigma, len(schema.slots), "validate.sigma")
    by_class = {name: sigmas[schema.slot_indices(name)] for name in schema.class_names}
    evaluation = evaluate(truth, detections, by_class, params.area_factor, params.conf)
    return SideResult(
        {"coco": flatten_figures(evaluation), "ultralytics": result.metrics}, evaluation, detections, truth
    )


def flatten_sides(metrics: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Join kind and name: ``{"val": {"coco": {"oks_AP": x}}}`` -> ``{"val": {"coco/oks_AP": x}}``."""
    return {
        side: {
            f"{kind}/{name.replace('/', '_')}": value
            for kind, figures in kinds.items()
            for name, value in figures.items()
        }
        for side, kinds in metrics.items()
    }


def _headline(results: dict[str, SideResult]) -> str:
    sides = " / ".join(results)
    ap50 = " / ".join(_show(result.evaluation.oks["AP50"]) for result in results.values())
    close = " / ".join(_percent(result.evaluation.within) for result in results.values())
    return f"{sides}: OKS AP50 {ap50}, close keypoints {close}"


def _sections(root: Path, side: str, result: SideResult, schema: Schema) -> list[Section]:
    e = result.evaluation
    theirs = result.metrics["ultralytics"]
    sigmas = ", ".join(f"{value:g}" for value in sorted({value for values in e.sigmas.values() for value in values}))
    figures: list[tuple[str, Cell]] = [
        ("Images", e.images),
        ("Objects", e.instances),
        *((f"OKS {name.replace('_', ', ')} (COCO)", _show(value)) for name, value in e.oks.items()),
        (f"Keypoints within {CLOSE_SHARE} box diagonals", _percent(e.within)),
        ("Median keypoint error, box diagonals", _show(e.median_diagonals)),
        ("Objects detected", _percent(e.detected)),
        *((f"{name.replace('/', ' ')} (Ultralytics)", _show(value)) for name, value in sorted(theirs.items())),
    ]
    note = (
        f"COCO evaluation on original pixels, sigma {sigmas}, area {e.area_factor:g} of the box, at most"
        f" {e.max_detections} objects an image. Ultralytics measures on the resized image with the loss sigmas."
        f" Keypoint errors count detections of score {e.conf:g} and above that cover the object with IoU 0.5."
    )
    columns = ["Class", "Keypoint", "Labelled", "Found", "Median, px", "Median, diagonals", f"Within {CLOSE_SHARE}, %"]
    rows = [
        [k.class_name, k.keypoint, k.labelled, k.found, _round(k.median_px, 1), _round(k.median_diagonals, 3),
         _round(None if k.within is None else 100 * k.within, 1)]
        for k in e.keypoints
    ]  # fmt: skip
    labels = [k.keypoint if len(schema.classes) == 1 else f"{k.class_name} {k.keypoint}" for k in e.keypoints]
    close = [None if k.within is None else round(100 * k.within, 1) for k in e.keypoints]
    pictures = _pictures(root, result, schema, e.conf)
    return [
        Gallery(f"{side}: annotated and predicted", pictures, min_width_px=420),
        BarChart(f"{side}: keypoints within {CLOSE_SHARE} box diagonals", list(zip(labels, close, strict=True)), "%"),
        Table(f"{side}: keypoints", columns, rows),
        KeyValues(f"{side}: figures", figures, note),
    ]


def _pictures(root: Path, result: SideResult, schema: Schema, conf: float) -> list[Picture]:
    """Draw some images, evenly spread over the side."""
    images = to_images(result.truth)
    by_image: dict[int, list[Detection]] = defaultdict(list)
    for detection in result.detections:
        if detection.score >= conf:
            by_image[detection.image_id].append(detection)
    chosen = np.unique(np.linspace(0, len(images) - 1, min(_PICTURES, len(images))).astype(int))
    return [
        Picture(_draw(root, images[index], by_image[result.truth.images[index].id], schema), images[index].path)
        for index in chosen
    ]


def _draw(root: Path, image: AnnotatedImage, detections: list[Detection], schema: Schema) -> bytes:
    pixels = np.ascontiguousarray(read_image(root / "data" / image.path)[..., ::-1])
    predictions = [to_prediction(detection, schema) for detection in detections]
    drawn = draw_side_by_side(pixels, image.instances, predictions, schema, longest_side_px=_PICTURE_PX)
    return encode_jpeg(drawn)


def to_prediction(detection: Detection, schema: Schema) -> Prediction:
    """Give a detection its names."""
    name = schema.class_names[detection.category_id - 1]
    left, top, width, height = detection.bbox
    rows = np.array(detection.keypoints).reshape(-1, 3).tolist()
    keypoints = [PredictedKeypoint(kpt, *row) for kpt, row in zip(schema.classes[name].keypoints, rows, strict=True)]
    return Prediction(name, detection.score, (left, top, left + width, top + height), keypoints)


def _figures(results: dict[str, SideResult]) -> list[Figure]:
    figures: list[Figure] = []
    for side, result in results.items():
        e = result.evaluation
        figures += [
            Figure(f"{side} OKS AP50", _show(e.oks["AP50"]), f"AP {_show(e.oks['AP'])}"),
            Figure(f"{side} close keypoints", _percent(e.within), f"within {CLOSE_SHARE} box diagonals"),
        ]
    return figures


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _show(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def main(root: Path) -> None:
    """Run the stage with the workspace's parameters."""
    document = read.read_params(root)
    read_record(root)
    run(read.load_section(document, "validate", ValidateParams), read.read_local(root), root)


if __name__ == "__main__":
    run_program("validate", main)
