"""What is known of a trained model: what it was made of, how good it is, and where its limits are."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from keypipe.errors import ModelError
from keypipe.evaluation.bootstrap import Intervals
from keypipe.inference.model_info import ModelInfo
from keypipe.inference.onnx_model import load_onnx_model
from keypipe.keypoints.skeleton import schema_to_mapping
from tasks.tracking.models.registry import to_tags
from tasks.workspace.documents import parse_yaml
from tasks.workspace.models import Summary
from tasks.workspace.places import ANNOTATIONS, LOCK, ONNX, RECORD, REPORT_JSON, report_folder

Read = Callable[[str], bytes | None]
"""Gives a file of the workspace, as it is now or was in a snapshot, by its path; None where there is none."""

T = TypeVar("T")


class KeypointFigures(msgspec.Struct, frozen=True):
    """A keypoint's errors, those of ``keypipe.evaluation.keypoint_errors`` that the card shows."""

    class_name: str
    keypoint: str
    labelled: int = 0
    missed: float | None = None
    median_px: float | None = None
    median_diagonals: float | None = None
    within: float | None = None
    swapped: float | None = None


class SplitFigures(msgspec.Struct, frozen=True):
    """A split's figures, those of ``keypipe.evaluation.evaluation.Evaluation`` that the card shows."""

    images: int = 0
    instances: int = 0
    sigmas: dict[str, list[float]] = {}
    area_rule: str = "box"
    area_factor: float = 0.53
    conf: float = 0.25
    oks: dict[str, float | None] = {}
    within: float | None = None
    median_diagonals: float | None = None
    detected: float | None = None
    keypoints: list[KeypointFigures] = []


class _Validated(msgspec.Struct, frozen=True):
    headline: str = ""
    sides: dict[str, SplitFigures] = {}
    intervals: dict[str, Intervals | None] = {}


class _Found(msgspec.Struct, frozen=True):
    kind: str
    severity: str


class _Converted(msgspec.Struct, frozen=True):
    images: int = 0
    objects: int = 0
    finding_counts: dict[str, dict[str, int]] = {}
    set_aside: list[Any] = []


class _Divided(msgspec.Struct, frozen=True):
    headline: str = ""
    groups: int = 0
    warnings: list[str] = []
    findings: list[_Found] = []
    sides: dict[str, dict[str, Any]] = {}


class Facts(msgspec.Struct, frozen=True):
    """All of it.

    Attributes:
        run_id: of the training, in MLflow.
        training: what it left behind.
        snapshot: commit of the files that it was made of; "" without one.
        data: hash of the annotations and images, as DVC has it; "" where they were not versioned.
        dataset: the same of the split dataset.
        info: what the network says of itself.
        onnx_sha256: hash of the network's file.
        onnx_bytes: its size.
        figures: by split, ``test`` and ``val``.
        intervals: by split; None: not measured.
        counts: images and objects of each split.
        groups: groups of images that stay together.
        findings: severity -> kind -> number, of convert and split.
        warnings: of split and train, sentences.
        set_aside: images that convert set aside for their faults.
    """

    run_id: str
    training: Summary
    snapshot: str
    data: str
    dataset: str
    info: ModelInfo
    onnx_sha256: str
    onnx_bytes: int
    figures: dict[str, SplitFigures]
    intervals: dict[str, Intervals | None]
    counts: dict[str, tuple[int, int]]
    groups: int
    findings: dict[str, dict[str, int]]
    warnings: list[str]
    set_aside: int

    @property
    def primary(self) -> str:
        """The split whose figures count: test where there is one."""
        return "test" if "test" in self.figures else "val"

    def lineage(self) -> dict[str, Any]:
        """Return what the version was made of and how it was graded, as its tags and its metadata have it."""
        tags, figures = self.training.record.tags, self.figures[self.primary]
        return {
            "keypipe.run": self.run_id,
            "keypipe.fingerprint": self.training.record.fingerprint,
            "keypipe.data": self.data,
            "keypipe.dataset": self.dataset,
            "keypipe.git_commit": tags.get("keypipe.git_commit", ""),
            "keypipe.git_dirty": tags.get("keypipe.git_dirty", ""),
            "keypipe.snapshot": self.snapshot,
            "keypipe.schema": schema_to_mapping(self.info.schema),
            "keypipe.sigmas": figures.sigmas,
            "keypipe.area": "as annotated" if figures.area_rule == "coco" else f"{figures.area_factor:g} of the box",
            "keypipe.onnx_sha256": self.onnx_sha256,
            "keypipe.imgsz": list(self.info.imgsz),
            "keypipe.license": self.info.license,
            "keypipe.version": self.info.version,
            "keypipe.headline": self.headline(),
        }

    def tags(self) -> dict[str, str]:
        """Return the lineage as tags of a registered version, with the figures of each split beside it."""
        flat: dict[str, float | None] = {}
        for split, figures in self.figures.items():
            flat |= {
                f"{split}.oks_AP": figures.oks.get("AP"),
                f"{split}.within_0.1_diagonals": figures.within,
                f"{split}.detected": figures.detected,
            }
            intervals = self.intervals.get(split)
            for name, interval in intervals.figures.items() if intervals else ():
                if f"{split}.{name}" in flat:
                    flat |= {f"{split}.{name}_low": interval.low, f"{split}.{name}_high": interval.high}
        return to_tags(self.lineage()) | {name: f"{value:.4f}" for name, value in flat.items() if value is not None}

    def headline(self) -> str:
        """Return the figures of the split that counts in a few words."""
        figures, intervals = self.figures[self.primary], self.intervals.get(self.primary)
        parts = []
        for name, title, value in (
            ("oks_AP", "OKS AP", figures.oks.get("AP")),
            ("within_0.1_diagonals", "close keypoints", figures.within),
        ):
            if value is not None:
                bounds = intervals.figures.get(name) if intervals else None
                parts.append(f"{title} {value:.3f}" + (f" ({bounds.low:.3f} to {bounds.high:.3f})" if bounds else ""))
        return f"{', '.join(parts) or 'nothing measured'}, on {figures.images} {self.primary} images"


def gather(read: Read, snapshot: str = "") -> Facts:
    """Gather the facts of the model whose files ``read`` gives.

    Args:
        read: gives the files.
        snapshot: commit of the training's snapshot.

    Raises:
        ModelError: the export or its figures are absent, or damaged.
    """
    training = _decode(read, RECORD, Summary)
    validated = _decode(read, report_folder("validate") / REPORT_JSON, _Validated)
    if not validated.sides:
        raise ModelError("reports/validate holds no figures; run `keypipe run`")
    converted = _decode(read, report_folder("convert") / REPORT_JSON, _Converted)
    divided = _decode(read, report_folder("split") / REPORT_JSON, _Divided)
    onnx = _read(read, ONNX)
    lock = read(LOCK.as_posix())
    counts = {
        split: (int(side.get("images", 0)), int(side.get("objects", 0)))
        for split, side in divided.sides.items()
        if side.get("images")
    }
    return Facts(
        run_id=training.run_id,
        training=training,
        snapshot=snapshot,
        data=training.record.raw_version or _locked(lock, "convert", "deps", "data/raw"),
        dataset=_locked(lock, "split", "outs", ANNOTATIONS.as_posix()),
        info=_describe(onnx),
        onnx_sha256=hashlib.sha256(onnx).hexdigest(),
        onnx_bytes=len(onnx),
        figures=validated.sides,
        intervals=validated.intervals,
        counts=counts,
        groups=divided.groups,
        findings=_add_findings(converted.finding_counts, divided.findings),
        warnings=[*divided.warnings, *training.warnings],
        set_aside=len(converted.set_aside),
    )


def _read(read: Read, path: Path) -> bytes:
    content = read(path.as_posix())
    if content is None:
        raise ModelError(f"{path}: not there; `keypipe run` makes it (export.formats must have onnx)")
    return content


def _decode(read: Read, path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(_read(read, path), type=kind)
    except msgspec.DecodeError as error:
        raise ModelError(f"{path}: damaged, or of another version of keypipe ({error}); run `keypipe run`") from error


def _locked(lock: bytes | None, stage: str, key: str, path: str) -> str:
    """Return the md5 that ``dvc.lock`` has of a stage's dep or output; "" where it has none."""
    document = parse_yaml(lock or b"", LOCK.name) or {}
    entries = ((document.get("stages") or {}).get(stage) or {}).get(key) or []
    return next((str(entry.get("md5", "")) for entry in entries if entry.get("path") == path), "")


def _describe(onnx: bytes) -> ModelInfo:
    with tempfile.TemporaryDirectory(prefix="keypipe-") as folder:
        path = Path(folder) / ONNX.name
        path.write_bytes(onnx)
        return load_onnx_model(path, device="cpu")[1]


def _add_findings(counts: Mapping[str, Mapping[str, int]], more: list[_Found]) -> dict[str, dict[str, int]]:
    """Add up findings of convert and split, which may tell of the same kind."""
    found = {severity: dict(kinds) for severity, kinds in counts.items()}
    for item in more:
        kinds = found.setdefault(item.severity, {})
        kinds[item.kind] = kinds.get(item.kind, 0) + 1
    return {severity: kinds for severity, kinds in found.items() if kinds}
