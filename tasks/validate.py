"""Stage validate: what the trained model is worth on the val split and on the held-out test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from pydantic import Field

from keypipe.dataset.coco import CocoFile
from keypipe.errors import ModelError
from keypipe.evaluation.average_precision import match_by_oks
from keypipe.evaluation.bootstrap import Intervals, measure_intervals
from keypipe.evaluation.calibration import calibrate_confidence, flatten_calibration
from keypipe.evaluation.evaluation import evaluate_in_full, flatten_figures, flatten_rule
from keypipe.keypoints.predictions import DEFAULT_KEYPOINT_CONF
from keypipe.keypoints.skeleton import Schema
from keypipe.report.page import Picture, Report, render_report
from keypipe.splits.manifest import name_units, read_manifest
from tasks.engine.door.inference import engine
from tasks.grading.detections import to_detections
from tasks.grading.rules import OksParams, to_grading
from tasks.pages.plots import PLOTS, format_plots
from tasks.pages.reports import write_report
from tasks.pages.training import read_preflight, to_report
from tasks.pages.validation import Measured, describe_headline, draw_galleries, to_figures, to_sections
from tasks.tracking import runs as tracking
from tasks.workspace import params as read
from tasks.workspace.dataset import read_schema, read_split, read_splits, refresh_view
from tasks.workspace.models import read_record
from tasks.workspace.places import (
    BEST,
    MANIFEST,
    VIEW_YAML,
    metrics_file,
    report_folder,
)
from tasks.workspace.program import replacing, run_program, say, write_json
from tasks.workspace.scratch import scratch_folder

REPORT = report_folder("validate")
METRICS = metrics_file("validate")
SPLITS = ("val", "test")


class ValidateParams(OksParams):
    """The section ``validate`` of ``params.yaml``."""

    conf: float = Field(default=0.25, gt=0, lt=1)
    keypoint_conf: float = Field(default=DEFAULT_KEYPOINT_CONF, gt=0, lt=1)
    resamples: int = Field(default=1000, ge=0)
    gallery: int = Field(default=12, ge=0)
    batch: int = Field(default=16, ge=1)
    imgsz: int | None = Field(default=None, ge=32)
    mirror: bool = Field(default=False, description="look at every image mirrored as well, and merge what is found")


def run(params: ValidateParams, seed: int, local: read.Local, root: Path) -> None:
    """Validate the best weights on the splits that the model was not trained on.

    Args:
        params: the stage's parameters.
        seed: of the resamples and the random images.
        local: settings of this machine.
        root: the workspace.

    Raises:
        PoseError: no weights, or weights for another skeleton.
    """
    engine().configure(root, local.threads)
    refresh_view(root)
    schema = read_schema(root)
    check_skeleton(engine().load_torch_model(root / BEST, "cpu")[1].schema, schema)
    splits = [split for split in SPLITS if split in read_splits(root)]
    parent = tracking.find_run(root)
    with tracking.child_run(root, parent, "validate") as live:
        results = {split: _validate_split(params, seed, local, root, split, schema) for split in splits}
        _write(params, seed, schema, results, root)
        _log(results, root, live, parent)
    say(f"validate: {describe_headline({split: result.measured for split, result in results.items()})}")


class SplitResult(msgspec.Struct):
    """What one split gave: figures by name, and what they come from."""

    metrics: dict[str, dict[str, float]]
    measured: Measured


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


def _write(params: ValidateParams, seed: int, schema: Schema, results: dict[str, SplitResult], root: Path) -> None:
    """Write report, pictures, figures and tables."""
    measured = {split: result.measured for split, result in results.items()}
    galleries = {split: draw_galleries(root, item, schema, params.gallery, seed) for split, item in measured.items()}
    headline = describe_headline(measured) + ("; images looked at mirrored as well" if params.mirror else "")
    summary = {
        "headline": headline,
        "sides": {split: item.evaluation for split, item in measured.items()},
        "intervals": {split: item.intervals for split, item in measured.items()},
        "calibration": {split: item.calibration for split, item in measured.items()},
    }
    sections = [
        section
        for split, result in reversed(list(results.items()))  # the held-out split first
        for section in to_sections(split, result.measured, result.metrics["ultralytics"], galleries[split], schema)
    ]
    page = Report("How good the model is", headline, sections, to_figures(measured), "validate")
    with replacing(root, REPORT) as report, replacing(root, METRICS) as metrics:
        report.mkdir()
        write_report(report, summary, page)
        training = to_report(read_record(root), read_preflight(root))
        (report / "training.html").write_text(render_report(training), encoding="utf-8")
        for split, item in measured.items():
            write_json(report / f"predictions_{split}.json", item.detections)
            _write_gallery(report / "gallery" / split, galleries[split])
        write_json(metrics, {split: result.metrics for split, result in results.items()})
    for path, text in format_plots(measured).items():
        with replacing(root, path) as file:
            file.write_text(text, encoding="utf-8")


def _write_gallery(folder: Path, galleries: Mapping[str, Sequence[Picture]]) -> None:
    """Write pictures as files, a folder for each kind."""
    for kind, pictures in galleries.items():
        (folder / kind).mkdir(parents=True)
        for index, picture in enumerate(pictures, start=1):
            (folder / kind / f"{index:02d}_{Path(picture.caption).stem}.jpg").write_bytes(picture.jpeg)


def _log(results: dict[str, SplitResult], root: Path, live: tracking.Run, parent: tracking.Run) -> None:
    """Record figures, report and tables; the figures on the training's run as well."""
    metrics = flatten_splits({split: result.metrics for split, result in results.items()})
    flat = {f"{split}_{name}": value for split, figures in metrics.items() for name, value in figures.items()}
    live.log_metrics(flat)
    parent.log_metrics(flat)
    live.log_files(root / REPORT, "reports/validate")
    for path in PLOTS:
        live.log_files(root / path, "plots")


def _validate_split(
    params: ValidateParams, seed: int, local: read.Local, root: Path, split: str, schema: Schema
) -> SplitResult:
    truth = read_split(root, split)
    grading = to_grading(params, schema, root)
    machine = {"workers": 2 if local.workers is None else local.workers} | (
        {"device": local.device} if local.device is not None else {}
    )
    with scratch_folder(root, "validate") as scratch:
        result = engine().validate(
            root / BEST,
            root.resolve() / VIEW_YAML,
            split,
            machine,
            batch=params.batch,
            imgsz=params.imgsz,
            scratch=scratch,
            mirror=schema.flip_idx if params.mirror else None,
        )
    detections = to_detections(result.predictions, truth, schema)
    by_class = grading.sigmas
    pairs = {name: skeleton.pairs for name, skeleton in schema.classes.items()}
    evaluation, tables = evaluate_in_full(
        truth,
        detections,
        by_class,
        params.area_factor,
        params.conf,
        area_rule=params.area_rule,
        keypoint_conf=params.keypoint_conf,
        pairs=pairs,
    )
    matched = match_by_oks(truth, detections, by_class, params.area_factor, area_rule=params.area_rule)
    unit, units = read_units(root, truth)
    intervals = measure_intervals(matched, tables, units, unit=unit, resamples=params.resamples, seed=seed)
    metrics = {
        "coco": flatten_figures(evaluation),
        "rule": flatten_rule(evaluation) | ({"mirrored": 1.0} if params.mirror else {}),
        "ultralytics": result.metrics,
    }
    if intervals is not None:
        metrics["interval"] = flatten_intervals(intervals)
    calibration = calibrate_confidence(tables, units)
    if calibration is not None:
        metrics["calibration"] = flatten_calibration(calibration)
    return SplitResult(metrics, Measured(truth, detections, evaluation, matched, intervals, calibration))


def read_units(root: Path, truth: CocoFile) -> tuple[str, list[str]]:
    """Return what the intervals draw: groups if the manifest names any for this split, else images.

    Args:
        root: the workspace, for the manifest.
        truth: the split's COCO file.

    Returns:
        ``group`` or ``image``, and the unit of each image; one without a group is a unit of its own.
    """
    return name_units([image.file_name for image in truth.images], read_manifest(root / MANIFEST).lines)


def flatten_intervals(intervals: Intervals) -> dict[str, float]:
    """Return the bounds by name, such as ``oks_AP_low``."""
    return {
        f"{name}_{bound}": getattr(interval, bound)
        for name, interval in intervals.figures.items()
        for bound in ("low", "high")
    }


def flatten_splits(metrics: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Join kind and name: ``{"val": {"coco": {"oks_AP": x}}}`` -> ``{"val": {"coco/oks_AP": x}}``."""
    return {
        split: {
            f"{kind}/{name.replace('/', '_')}": value
            for kind, figures in kinds.items()
            for name, value in figures.items()
        }
        for split, kinds in metrics.items()
    }


def main(root: Path) -> None:
    """Run the stage with the workspace's parameters."""
    document = read.read_params(root)
    read_record(root)
    params = read.load_section(document, "validate", ValidateParams)
    run(params, read.load_seed(document), read.read_local(root), root)


if __name__ == "__main__":
    run_program("validate", main)
