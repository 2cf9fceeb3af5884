"""Stage export: the trained model for other runtimes, proven to say the same as the one that was trained."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from keypipe import __version__
from keypipe.coco import to_images
from keypipe.errors import ModelError
from keypipe.media import read_image
from keypipe.parity import Parity, compare_models
from keypipe.predictor import METADATA_KEY, format_keypipe_metadata, load_onnx_model
from keypipe.report import Figure, KeyValues, Report, Section, Table, render_report
from keypipe.skeleton import Schema
from tasks import params as read
from tasks import tracking
from tasks.dataset import read_schema, read_side
from tasks.engine import inference as engine
from tasks.engine.settings import configure
from tasks.models import BEST, LICENSE, find_run, read_record
from tasks.stage import STATE, remove, replacing, run_program, say, write_json

EXPORTS = Path("exports")
MODEL = EXPORTS / "model.onnx"
REPORT = Path("reports/export")
METRICS = Path("metrics/export.json")


class ExportParams(read.Section):
    """The section ``export`` of ``params.yaml``."""

    format: Literal["onnx"] = "onnx"
    imgsz: int | None = Field(default=None, ge=32)
    opset: int | None = Field(default=None, ge=11)
    dynamic: bool = False
    simplify: bool = True
    tolerance_px: float = Field(default=0.5, gt=0)
    images: int = Field(default=100, ge=1, description="validation images to compare on, at most")
    conf: float = Field(default=0.25, gt=0, lt=1)


def run(params: ExportParams, local: read.Local, root: Path) -> None:
    """Export the best weights and compare the export with them.

    Args:
        params: the stage's parameters.
        local: settings of this machine.
        root: the workspace.

    Raises:
        ModelError: the export fails, or differs from the weights by more than the tolerance.
    """
    configure(root, local.threads)
    schema = read_schema(root)
    parent = find_run(root)
    scratch = root / STATE / "tmp" / "export"
    remove(scratch)
    scratch.mkdir(parents=True)
    with tracking.child_run(root, parent, "export") as live:
        arguments: dict[str, Any] = {"dynamic": params.dynamic, "simplify": params.simplify}
        if params.opset:
            arguments["opset"] = params.opset
        exported = engine.export(root / BEST, params.format, params.imgsz, arguments, scratch)
        add_metadata(exported, schema)
        parity = compare(root, exported, params)
        check_parity(parity, params.tolerance_px)
        figures = {
            "parity_max_px": parity.max_px,
            "parity_p99_px": parity.p99_px,
            "parity_unmatched": parity.unmatched,
            "size_mb": exported.stat().st_size / 1e6,
        }
        summary = {
            "headline": f"ONNX, {figures['size_mb']:.1f} MB, at most {parity.max_px:.2g} px from PyTorch",
            "parity": parity,
            "tolerance_px": params.tolerance_px,
        }
        with (
            replacing(root, EXPORTS) as exports,
            replacing(root, REPORT) as report,
            replacing(root, METRICS) as metrics,
        ):
            exports.mkdir()
            report.mkdir()
            shutil.move(exported, exports / MODEL.name)
            write_json(report / "report.json", summary)
            (report / "report.html").write_text(render_report(to_report(summary, figures)), encoding="utf-8")
            write_json(metrics, {"onnx": figures})
        remove(scratch)
        flat = {f"export_onnx/{name}": float(value) for name, value in figures.items()}
        live.log_metrics(flat)
        parent.log_metrics(flat)
        live.log_files(root / EXPORTS, "exports")
        live.log_files(root / REPORT, "reports/export")
        info = load_onnx_model(root / MODEL)[1]
        tracking.log_onnx_model(root, live, root / MODEL, *info.imgsz)
    say(f"export: {summary['headline']}")


def add_metadata(path: Path, schema: Schema) -> None:
    """Let an ONNX file carry its schema and license."""
    import onnx

    model = onnx.load(str(path))
    kept = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, format_keypipe_metadata(schema, LICENSE, __version__)
    onnx.save(model, str(path))


def compare(root: Path, exported: Path, params: ExportParams) -> Parity:
    """Run the weights and the export on the same validation images.

    Args:
        root: the workspace.
        exported: the ONNX file.
        params: number of images and score threshold.

    Returns:
        The differences, in pixels of the images.
    """
    images = to_images(read_side(root, "val"))
    chosen = np.unique(np.linspace(0, len(images) - 1, min(params.images, len(images))).astype(int))
    onnx_model, info = load_onnx_model(exported)
    forward, _ = engine.load_torch_model(root / BEST, "cpu")
    pixels = (read_image(root / "data" / images[index].path) for index in chosen)
    return compare_models(forward, onnx_model, info, pixels, params.conf)


def check_parity(parity: Parity, tolerance_px: float) -> None:
    """Refuse an export that does not say what the weights say.

    Raises:
        ModelError: a keypoint or a box is further off than the tolerance, or objects differ.
    """
    if max(parity.max_px, parity.max_box_px) > tolerance_px or parity.unmatched:
        raise ModelError(
            f"the export differs from the weights: keypoints by up to {parity.max_px:.3f} px, boxes by up to"
            f" {parity.max_box_px:.3f} px (tolerance {tolerance_px:g}), {parity.unmatched} of {parity.objects} objects"
            f" found by one of the two only, over {parity.images} images;"
            " try another export.opset or export.simplify: false, or raise export.tolerance_px if that is good enough"
        )


def to_report(summary: dict[str, Any], figures: dict[str, Any]) -> Report:
    """Build the page that a person reads."""
    parity: Parity = summary["parity"]
    sections: list[Section] = [
        KeyValues("Export", [("File", str(MODEL)), ("Size", f"{figures['size_mb']:.1f} MB"), ("License", LICENSE)]),
        Table(
            "Compared with PyTorch on validation images",
            ["Figure", "Value"],
            [
                ["Images", parity.images],
                ["Objects that PyTorch found", parity.objects],
                ["Anchors compared", parity.anchors],
                ["Found by one of the two only", parity.unmatched],
                ["Largest keypoint difference, px", f"{parity.max_px:.5f}"],
                ["99th percentile, px", f"{parity.p99_px:.5f}"],
                ["Largest box difference, px", f"{parity.max_box_px:.5f}"],
                ["Largest difference of a confidence", f"{parity.max_confidence:.6f}"],
                ["Tolerance, px", f"{summary['tolerance_px']:g}"],
            ],
        ),
    ]
    shown = [
        Figure("Size", f"{figures['size_mb']:.1f} MB"),
        Figure("Keypoint difference", f"{parity.max_px:.4f} px", f"largest over {parity.images} images"),
    ]
    return Report("Exported model", summary["headline"], sections, shown, "export")


def main(root: Path) -> None:
    """Run the stage with the workspace's parameters."""
    document = read.read_params(root)
    read_record(root)
    run(read.load_section(document, "export", ExportParams), read.read_local(root), root)


if __name__ == "__main__":
    run_program("export", main)
