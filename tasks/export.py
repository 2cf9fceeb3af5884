"""Stage export: the trained model for other runtimes, each proven to say what the trained one says."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from keypipe import __version__
from keypipe.dataset.coco import to_images
from keypipe.errors import ModelError
from keypipe.images.media import read_image
from keypipe.inference.letterbox import letterbox
from keypipe.inference.model_info import METADATA_KEY, ModelInfo, format_keypipe_metadata
from keypipe.inference.predictor import RawModel
from keypipe.keypoints.skeleton import Schema
from tasks.engine.door.exporting import Exported, engine
from tasks.grading.rules import Grading, GradingParams, to_grading
from tasks.pages.export import Summary, to_headline, to_report
from tasks.pages.reports import write_report
from tasks.proofs.parity import Candidate, Proof, Tolerance, prove
from tasks.proofs.timing import BATCHES, Latency, measure_latency
from tasks.tracking import runs as tracking
from tasks.workspace import params as read
from tasks.workspace.dataset import read_depth, read_schema, read_split, refresh_view
from tasks.workspace.models import LICENSE, read_record
from tasks.workspace.places import (
    BEST,
    EXPORTS,
    FAILURES,
    LATENCY,
    VIEW_YAML,
    metrics_file,
    report_folder,
)
from tasks.workspace.program import replacing, run_program, say, write_json
from tasks.workspace.scratch import remove, scratch_folder

REPORT = report_folder("export")
METRICS = metrics_file("export")
EVIDENCE = FAILURES / "export"

ONNX = "onnx"
INT8 = "onnx_int8"


class ExportParams(read.Section):
    """The section ``export`` of ``params.yaml``."""

    formats: list[str] = Field(default=[ONNX], min_length=1)
    imgsz: int | None = Field(default=None, ge=32)
    opset: int | None = Field(default=None, ge=11)
    dynamic: bool = False
    simplify: bool = True
    conf: float = Field(default=0.25, gt=0, lt=1)
    tolerance_px: float = Field(default=0.5, gt=0)
    tolerance_ap: float = Field(default=0.005, ge=0, le=1)
    int8: bool = False
    int8_images: int = Field(default=128, ge=1, description="training images to calibrate on, at most")
    int8_tolerance_diagonals: float = Field(default=0.1, gt=0)
    int8_tolerance_ap: float = Field(default=0.02, ge=0, le=1)
    timing_seconds: float = Field(default=1.0, ge=0)

    @field_validator("formats")
    @classmethod
    def _check_formats(cls, formats: list[str]) -> list[str]:
        known = engine().FORMATS
        unknown = [name for name in formats if name not in known]
        if unknown:
            raise ValueError(f"unknown: {', '.join(unknown)} (known: {', '.join(known)})")
        if len(set(formats)) < len(formats):
            raise ValueError("a format is named twice")
        return formats

    @model_validator(mode="after")
    def _check_int8(self) -> ExportParams:
        if self.int8 and ONNX not in self.formats:
            raise ValueError("int8 is made from the ONNX file: add onnx to formats, or set int8 to false")
        return self


def run(params: ExportParams, grading: GradingParams, seed: int, local: read.Local, root: Path) -> None:
    """Export the best weights and prove every export on the val split.

    Args:
        params: the stage's parameters.
        grading: how AP is measured.
        seed: of the sample of images that INT8 is calibrated on.
        local: settings of this machine.
        root: the workspace.

    Raises:
        ModelError: a toolchain is absent or fails, or an export differs from the weights by more than is allowed.
    """
    engine().configure(root, local.threads)
    threads = local.threads or os.cpu_count() or 1
    schema = read_schema(root)
    parent = tracking.find_run(root)
    with scratch_folder(root, "export") as scratch, tracking.child_run(root, parent, "export") as live:
        exported, first = export_formats(params, schema, root, scratch)
        info = ModelInfo(schema, first.imgsz, end2end=first.end2end)
        if params.int8:
            exported.append(_quantize(exported, params, seed, info, root))
        models, unproven = _load(exported, threads)
        candidates = {name: candidate for name, (candidate, _) in models.items()}
        graded = to_grading(grading, schema, root)
        truth = read_split(root, "val")
        reference = engine().reference().load(root / BEST, threads)
        reference_ap, proofs = prove(root, truth, reference, models, info, graded, params.conf)
        summary = _summarise(params, info, graded, reference_ap, proofs, unproven)
        if summary.faults:
            _keep_evidence(summary, root, scratch, live)
        latency = _time(params, candidates, info, threads, root)
        _write(summary, latency, [candidate.path for candidate in exported], root)
        remove(root / EVIDENCE)
        _log(summary, latency, info, root, live, parent)
    say(f"export: {summary.headline}")


def export_formats(params: ExportParams, schema: Schema, root: Path, scratch: Path) -> tuple[list[Candidate], Exported]:
    """Export the best weights to all formats.

    Args:
        params: which formats, and how.
        schema: what the files are to say of their classes and keypoints.
        root: the workspace.
        scratch: an empty folder for the files.

    Returns:
        The exports in the order of ``params.formats``, and what the first is; all have the same input and output.

    Raises:
        ModelError: what is wrong with each format that could not be made.
    """
    if not all(map(engine().has_runtime, params.formats)):
        refresh_view(root)  # some of the others are calibrated on its images
    arguments: dict[str, Any] = {"dynamic": params.dynamic, "simplify": params.simplify}
    if params.opset:
        arguments["opset"] = params.opset
    metadata = {METADATA_KEY: format_keypipe_metadata(schema, LICENSE, __version__, read_depth(root))}
    calibration = root.resolve() / VIEW_YAML
    titles = engine().format_titles()
    tolerance = Tolerance(params.tolerance_px, params.tolerance_ap)
    found: list[Candidate] = []
    made: list[Exported] = []
    problems: list[str] = []
    for name in params.formats:
        try:
            exported = engine().export(root / BEST, name, params.imgsz, arguments, metadata, calibration, scratch)
        except ModelError as error:
            problems.append(str(error))
            continue
        found.append(Candidate(name, titles[name], exported.path, engine().runtime(name), tolerance))
        made.append(exported)
    if problems:
        raise ModelError("\n".join(problems))
    return found, made[0]


def _quantize(exported: list[Candidate], params: ExportParams, seed: int, info: ModelInfo, root: Path) -> Candidate:
    """Make the INT8 twin of the ONNX file, calibrated on training images."""
    source = next(candidate.path for candidate in exported if candidate.name == ONNX)
    target = source.with_name(f"{source.stem}.int8{source.suffix}")
    engine().quantize(source, target, _calibration_inputs(params.int8_images, seed, info, root))
    tolerance = Tolerance(params.int8_tolerance_diagonals, params.int8_tolerance_ap, exact=False)
    return Candidate(INT8, "ONNX INT8", target, engine().runtime(ONNX), tolerance)


def _calibration_inputs(count: int, seed: int, info: ModelInfo, root: Path) -> Iterator[NDArray[np.float32]]:
    images = to_images(read_split(root, "train"))
    chosen = np.random.default_rng(seed).choice(len(images), min(count, len(images)), replace=False)
    for index in sorted(chosen):
        yield letterbox(read_image(root / "data" / images[index].path), info.imgsz)[0]


def _load(exported: list[Candidate], threads: int) -> tuple[dict[str, tuple[Candidate, RawModel]], dict[str, str]]:
    """Open the exports; those of chips that are not here cannot be, and are not proven."""
    models: dict[str, tuple[Candidate, RawModel]] = {}
    unproven: dict[str, str] = {}
    for candidate in exported:
        try:
            models[candidate.name] = candidate, candidate.runtime.load(candidate.path, threads)
        except ModelError as error:
            if engine().has_runtime(candidate.name):
                raise
            unproven[candidate.title] = str(error)
            say(f"export: warning: {candidate.title} is not proven: {error}")
    return models, unproven


def _summarise(
    params: ExportParams,
    info: ModelInfo,
    grading: Grading,
    reference_ap: float | None,
    proofs: dict[str, Proof],
    unproven: dict[str, str],
) -> Summary:
    return Summary(
        headline=to_headline(list(proofs.values()), list(unproven)),
        imgsz=info.imgsz,
        conf=params.conf,
        sigmas={name: values.tolist() for name, values in grading.sigmas.items()},
        area_rule=grading.area_rule,
        area_factor=grading.area_factor,
        reference_ap=reference_ap,
        proofs=proofs,
        unproven=unproven,
        faults=[f"{proof.title}: {fault}" for proof in proofs.values() for fault in proof.faults()],
    )


def _keep_evidence(summary: Summary, root: Path, scratch: Path, live: tracking.Run) -> None:
    """Keep exports that are not good enough, and what is wrong with them, where the next run finds them.

    Raises:
        ModelError: always; says what is wrong.
    """
    folder = root / EVIDENCE
    remove(folder)
    folder.mkdir(parents=True)
    write_report(folder, summary, to_report(summary, None))
    live.log_files(folder, "failure")
    scratch.rename(folder / "exports")
    images = next(iter(summary.proofs.values())).parity.images
    raise ModelError(
        f"exports differ from the weights, over {images} images:\n"
        + "".join(f"  {fault}\n" for fault in summary.faults)
        + f"the exports and the figures are in {EVIDENCE} (report.html); try another export.opset or"
        " export.simplify: false, more export.int8_images, or raise the tolerance if that is good enough"
    )


def _time(
    params: ExportParams, candidates: dict[str, Candidate], info: ModelInfo, threads: int, root: Path
) -> Latency | None:
    if not params.timing_seconds:
        return None
    images = to_images(read_split(root, "val"))[: max(BATCHES)]
    pixels = [read_image(root / "data" / image.path) for image in images]
    return measure_latency(root / BEST, candidates, info, pixels, params.timing_seconds, threads)


def _write(summary: Summary, latency: Latency | None, paths: list[Path], root: Path) -> None:
    with (
        replacing(root, EXPORTS) as exports,
        replacing(root, REPORT) as report,
        replacing(root, METRICS) as metrics,
    ):
        exports.mkdir()
        report.mkdir()
        for path in paths:
            shutil.move(path, exports / path.name)
        if latency:
            write_json(exports / LATENCY.name, latency)
        write_report(report, summary, to_report(summary, latency))
        write_json(metrics, {name: proof.figures() for name, proof in summary.proofs.items()})


def _log(
    summary: Summary, latency: Latency | None, info: ModelInfo, root: Path, live: tracking.Run, parent: tracking.Run
) -> None:
    flat = {
        f"export_{name}/{figure}": float(value)
        for name, proof in summary.proofs.items()
        for figure, value in proof.figures().items()
    }
    parent.log_metrics(flat)
    live.log_metrics(flat | (latency.figures() if latency else {}))
    live.log_files(root / EXPORTS, "exports")
    live.log_files(root / REPORT, "reports/export")
    if ONNX in summary.proofs:
        live.log_onnx_model(root / EXPORTS / summary.proofs[ONNX].file, *info.imgsz)


def main(root: Path) -> None:
    """Run the stage with the workspace's parameters."""
    document = read.read_params(root)
    params = read.load_section(document, "export", ExportParams)
    grading = read.load_section(document, "validate", GradingParams)
    read_record(root)
    run(params, grading, read.load_seed(document), read.read_local(root), root)


if __name__ == "__main__":
    run_program("export", main)
