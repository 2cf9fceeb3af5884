"""One page of a whole run: data, curves, evaluation, pictures, export, gate and lineage, small enough for a mail.

It is made of what the stages left (reports, records, pictures), by the functions that make their own pages; nothing is
measured anew. Where it would be too large, its pictures are made smaller, then fewer.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import msgspec
import numpy as np
import yaml
from PIL import Image

from keypipe.dataset.coco import CocoFile, parse_coco
from keypipe.diagnosis.findings import describe_kind
from keypipe.errors import DatasetError, ModelError
from keypipe.evaluation.average_precision import match_by_oks
from keypipe.evaluation.bootstrap import Intervals
from keypipe.evaluation.calibration import Calibration
from keypipe.evaluation.evaluation import Evaluation
from keypipe.evaluation.gallery import describe_score, score_images
from keypipe.evaluation.matching import Detection
from keypipe.keypoints.skeleton import Schema, Skeleton
from keypipe.report.page import (
    Cell,
    Chapter,
    Figure,
    Gallery,
    KeyValues,
    Note,
    Notes,
    Picture,
    Report,
    Section,
    Table,
    render_report,
)
from keypipe.splits.power import Power
from tasks.grading.preflight import Facts as Preflight
from tasks.pages import convert, export, split, training, validation
from tasks.pages.reports import parse_report
from tasks.pages.validation import Measured
from tasks.proofs.timing import Latency
from tasks.workspace.documents import parse_yaml
from tasks.workspace.models import Summary, decode_figures
from tasks.workspace.places import (
    ANNOTATIONS,
    DATA_YAML,
    LATENCY,
    LOCK,
    PREFLIGHT_FACTS,
    PREFLIGHT_PICTURE,
    RECORD,
    REPORT_JSON,
    metrics_file,
    report_folder,
)

MEGA = 1_000_000
_SPLITS = ("test", "val")
_ORIGIN = "Where it comes from"
_PASSING = "Since the last run"
"""A section on what changed, which tells nothing to who has not seen the run before."""

Read = Callable[[str], bytes | None]
T = TypeVar("T")


class Files(msgspec.Struct, frozen=True):
    """The files of a run: the workspace as it is, or what git and DVC have of a commit.

    Attributes:
        read: gives a file by its path in the workspace; None where there is none.
        list: gives the names of the files in a folder, sorted; none where there is no folder.
    """

    read: Read
    list: Callable[[str], list[str]]


class Step(msgspec.Struct, frozen=True):
    """How pictures are reduced.

    Attributes:
        side_px: longest side at most; None: as they are.
        quality: of JPEG.
        most: pictures of a gallery at most.
    """

    side_px: int | None = None
    quality: int = 85
    most: int = 1000


STEPS = (
    Step(),
    Step(900, 75),
    Step(640, 70),
    Step(480, 65),
    Step(400, 60, 12),
    Step(320, 55, 6),
    Step(240, 50, 3),
    Step(most=0),
)
"""Tried one after the other until a page fits."""


def files_of(root: Path) -> Files:
    """Return the files of a workspace as it is."""

    def read(path: str) -> bytes | None:
        place = root / path
        return place.read_bytes() if place.is_file() else None

    def names(folder: str) -> list[str]:
        place = root / folder
        return sorted(path.name for path in place.iterdir() if path.is_file()) if place.is_dir() else []

    return Files(read, names)


def to_report(
    files: Files, name: str, gate: Sequence[Section] = (), lineage: Mapping[str, Cell] | None = None
) -> Report:
    """Build the page.

    Args:
        files: of the run.
        name: of the workspace.
        gate: what the gate and people said of the model; nothing was said where there is none.
        lineage: what else is known of where it comes from and where it is used.

    Raises:
        ModelError: nothing was trained.
        DatasetError: a file is damaged, or of another version of keypipe.
    """
    summary = _read_training(files)
    measured: dict[str, Measured] = {}

    def evaluation() -> list[Section]:
        measured.update(_read_measured(files))
        return _evaluation(files, measured)

    parts: dict[str, tuple[Callable[[], Sequence[Section]], str]] = {
        "Data": (lambda: _data(files), "convert and split left no report"),
        "Training": (lambda: _training(files, summary), ""),
        "How good it is": (evaluation, "validate has not run"),
        "Export": (lambda: _export(files), "export has not run"),
        "Gate": (lambda: gate, "no gate has compared its model with another, and no version of it is registered"),
        "Lineage": (lambda: _lineage(files, summary, lineage or {}), ""),
    }
    sections: list[Section] = []
    for title, (make, why_nothing) in parts.items():
        sections.append(Chapter(title))
        try:
            sections += make() or [Notes("Nothing to tell", [Note("info", why_nothing)])]
        except DatasetError as error:  # as of a run of an older version, whose own pages are still there
            sections.append(Notes("Not told", [Note("warning", str(error))]))
    headline = validation.describe_headline(measured) if measured else summary.headline
    figures = _figures(measured, summary)
    return Report(f"{name}: training {summary.run_id[:8]}", headline, sections, figures, "run")


def render_within(report: Report, limit_bytes: int | None) -> tuple[str, Step]:
    """Render a page with pictures as large as a limit allows.

    Args:
        report: the page.
        limit_bytes: of the HTML, UTF-8; None: none.

    Returns:
        The page, and how its pictures were reduced.

    Raises:
        ModelError: it is too large without any picture.
    """
    for step in STEPS:
        page = render_report(_reduce(report, step))
        size = len(page.encode())
        if limit_bytes is None or size <= limit_bytes:
            return page, step
    assert limit_bytes is not None
    limit = f"{limit_bytes / MEGA:g} MB"
    raise ModelError(f"the page has {size / MEGA:.2f} MB without any picture, more than {limit}; raise --mb")


def _reduce(report: Report, step: Step) -> Report:
    if step == Step():
        return report
    sections: list[Section] = []
    for section in report.sections:
        if isinstance(section, Gallery):
            pictures = [_shrink(picture, step) for picture in section.pictures[: step.most]]
            left = len(section.pictures) - len(pictures)
            note = " ".join(filter(None, (section.note, f"{left} more are in the workspace." if left else "")))
            if pictures:
                sections.append(msgspec.structs.replace(section, pictures=pictures, note=note))
        else:
            sections.append(section)
    return msgspec.structs.replace(report, sections=sections)


def _shrink(picture: Picture, step: Step) -> Picture:
    image = Image.open(io.BytesIO(picture.jpeg)).convert("RGB")
    if step.side_px is not None:
        image.thumbnail((step.side_px, step.side_px), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    image.save(written, "JPEG", quality=step.quality, optimize=True)
    smaller = written.getvalue()
    return msgspec.structs.replace(picture, jpeg=min(smaller, picture.jpeg, key=len))


# -------------------------------------------------------------------------------------------- chapters


def _read_training(files: Files) -> Summary:
    content = files.read(RECORD.as_posix())
    if content is None:
        raise ModelError(f"{RECORD}: not there, so there is no training to tell of; `keypipe run` makes one")
    return _decode(lambda: decode_figures(content, Summary), RECORD.as_posix())


def _decode(decode: Callable[[], T], name: str) -> T:
    try:
        return decode()
    except (msgspec.ValidationError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{name}: damaged, or of another version of keypipe ({error}); its own page may tell, or run its stage anew"
        ) from error


def _report_of(files: Files, stage: str) -> dict[str, Any] | None:
    path = (report_folder(stage) / REPORT_JSON).as_posix()
    content = files.read(path)
    return None if content is None else parse_report(content, path)


def _data(files: Files) -> list[Section]:
    converted, divided = _report_of(files, "convert"), _report_of(files, "split")
    sections: list[Section] = []
    if converted is not None:
        page = _decode(lambda: convert.to_report(converted, [], [], []), "reports/convert/report.json")
        sections += [section for section in page.sections if not isinstance(section, Gallery)]
        sections += _findings([converted.get("finding_counts") or {}, _count(divided)])
    if divided is not None:
        power = divided.get("power")
        plain = {**divided, "power": msgspec.convert(power, Power) if power else None}
        page = _decode(lambda: split.to_report(plain), "reports/split/report.json")
        told = {section.title for section in sections}
        sections += [
            msgspec.structs.replace(section, title=f"{section.title} in each split")
            if section.title in told
            else section
            for section in page.sections
            if section.title != _PASSING
        ]
    return sections


def _count(divided: Mapping[str, Any] | None) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for found in (divided or {}).get("findings") or []:
        kinds = counts.setdefault(found["severity"], {})
        kinds[found["kind"]] = kinds.get(found["kind"], 0) + 1
    return counts


def _findings(counts: Sequence[Mapping[str, Mapping[str, int]]]) -> list[Section]:
    rows: list[list[Cell]] = [
        [severity, describe_kind(kind).title, number]
        for severity in ("error", "warning", "info")
        for found in counts
        for kind, number in found.get(severity, {}).items()
    ]
    note = "`keypipe doctor` shows each of them with its picture."
    return [Table("What the diagnosis found", ["Weight", "What", "Number"], rows, note)] if rows else []


def _training(files: Files, summary: Summary) -> Sequence[Section]:
    facts, picture = files.read(PREFLIGHT_FACTS.as_posix()), files.read(PREFLIGHT_PICTURE.as_posix())
    preflight: list[Section] = []
    if facts is not None and picture is not None:
        seen = _decode(lambda: decode_figures(facts, Preflight), PREFLIGHT_FACTS.as_posix())
        preflight = training.to_preflight_sections(seen, picture)
    page = training.to_report(summary, preflight)
    return [section for section in page.sections if section.title != _ORIGIN]


def _read_measured(files: Files) -> dict[str, Measured]:
    """Return what was measured on each split, the held-out one first."""
    report = _report_of(files, "validate")
    if report is None:
        return {}
    found: dict[str, Measured] = {}
    for name in (one for one in _SPLITS if one in report["sides"]):
        truth = files.read((ANNOTATIONS / f"{name}.json").as_posix())
        detections = files.read((report_folder("validate") / f"predictions_{name}.json").as_posix())
        if truth is not None and detections is not None:
            found[name] = _decode(
                lambda name=name, truth=truth, detections=detections: _to_measured(  # type: ignore[misc]
                    report, name, parse_coco(truth), msgspec.json.decode(detections, type=list[Detection])
                ),
                "reports/validate/report.json",
            )
    return found


def _to_measured(report: Mapping[str, Any], name: str, truth: CocoFile, detections: list[Detection]) -> Measured:
    evaluation = msgspec.convert(report["sides"][name], Evaluation)
    sigmas = {label: np.array(values) for label, values in evaluation.sigmas.items()}
    matched = match_by_oks(truth, detections, sigmas, evaluation.area_factor, area_rule=evaluation.area_rule)
    intervals = (report.get("intervals") or {}).get(name)
    calibration = (report.get("calibration") or {}).get(name)
    return Measured(
        truth,
        detections,
        evaluation,
        matched,
        msgspec.convert(intervals, Intervals) if intervals else None,
        msgspec.convert(calibration, Calibration) if calibration else None,
    )


def _evaluation(files: Files, measured: Mapping[str, Measured]) -> list[Section]:
    if not measured:
        return []
    metrics = msgspec.json.decode(files.read(metrics_file("validate").as_posix()) or b"{}")
    sections: list[Section] = []
    for number, (name, item) in enumerate(measured.items()):
        theirs = metrics.get(name, {}).get("ultralytics", {})
        galleries = {kind: _gallery(files, name, kind, item) if not number else [] for kind in ("worst", "random")}
        made = validation.to_sections(name, item, theirs, galleries, _schema(files, item.truth))
        titles = [section for section in made if not (isinstance(section, Gallery) and not section.pictures)]
        inside = titles[1:]  # the chapter of its own page is a part of one here
        if number:  # of the split that was chosen by, the figures alone
            inside = [section for section in inside if isinstance(section, KeyValues)]
        heading = titles[0]
        assert isinstance(heading, Chapter)
        sections.append(Notes(heading.title, [Note("info", heading.note)]))
        sections += [
            msgspec.structs.replace(section, title=f"{section.title} on {name}")
            if isinstance(section, KeyValues)
            else section
            for section in inside
        ]
    return sections


def _schema(files: Files, truth: CocoFile) -> Schema:
    data = yaml.safe_load(files.read(DATA_YAML.as_posix()) or b"") or {}
    slots: list[str] = next(iter(data.get("kpt_names", {}).values()), [])
    flip: list[int] = data.get("flip_idx", [])
    partners = [(slots[i], slots[j]) for i, j in enumerate(flip) if i < j]
    return Schema(
        {
            category.name: Skeleton(
                tuple(category.keypoints),
                tuple((category.keypoints[a - 1], category.keypoints[b - 1]) for a, b in category.skeleton),
                tuple(pair for pair in partners if set(pair) <= set(category.keypoints)),
            )
            for category in truth.categories
        }
    )


def _gallery(files: Files, name: str, kind: str, measured: Measured) -> list[Picture]:
    """Return the pictures that validate has drawn, with what it said of each image."""
    folder = report_folder("validate") / "gallery" / name / kind
    e = measured.evaluation
    sigmas = {label: np.array(values) for label, values in e.sigmas.items()}
    scores = score_images(measured.truth, measured.counted(), sigmas, e.area_factor, area_rule=e.area_rule)
    images: dict[str, list[int]] = {}
    for number, image in enumerate(measured.truth.images):
        images.setdefault(PurePosixPath(image.file_name).stem, []).append(number)
    pictures: list[Picture] = []
    for file in files.list(folder.as_posix()):
        stem = file.partition("_")[2].removesuffix(".jpg")
        content = files.read((folder / file).as_posix())
        if content is not None:
            known = images.get(stem, [])
            index = known[0] if len(known) == 1 else None
            caption = stem if index is None else measured.truth.images[index].file_name
            detail = "" if index is None else describe_score(scores[index])
            pictures.append(Picture(content, caption, detail))
    return pictures


def _export(files: Files) -> Sequence[Section]:
    report, latency = _report_of(files, "export"), files.read(LATENCY.as_posix())
    if report is None:
        return []
    measured = _decode(lambda: msgspec.json.decode(latency, type=Latency), LATENCY.as_posix()) if latency else None
    summary = _decode(lambda: msgspec.convert(report, export.Summary), "reports/export/report.json")
    return export.to_report(summary, measured).sections


def _lineage(files: Files, summary: Summary, more: Mapping[str, Cell]) -> list[Section]:
    record = summary.record
    lock = parse_yaml(files.read(LOCK.as_posix()) or b"", LOCK.name) or {}
    known: dict[str, Cell] = {
        "Training (MLflow run)": summary.run_id,
        "Raw data (DVC)": record.raw_version or "not versioned",
        "Fingerprint of the training": record.fingerprint,
        **more,
    }
    rows: list[list[Cell]] = [
        [stage, kind, entry["path"], entry.get("md5", "")]
        for stage, locked in (lock.get("stages") or {}).items()
        for kind in ("deps", "outs")
        for entry in locked.get(kind) or []
        if not str(entry["path"]).startswith(("keypipe", "tasks"))
    ]
    title, columns = "What each stage read and wrote", ["Stage", "", "Path", "md5 in dvc.lock"]
    origin = [section for section in training.to_report(summary).sections if section.title == _ORIGIN]
    short = Table("In short", ["What", "Value"], [[key, value] for key, value in known.items()])
    note = "Without code, which the commit names."
    return [short, *origin, *([Table(title, columns, rows, note)] if rows else [])]


def _figures(measured: Mapping[str, Measured], summary: Summary) -> list[Figure]:
    first = dict(list(measured.items())[:1])
    figures = validation.to_figures(first) if first else []
    counts = summary.record.counts
    images = {name.removesuffix(" images"): count for name, count in counts.items() if name.endswith(" images")}
    images |= {name: item.evaluation.images for name, item in measured.items()}
    told = ", ".join(f"{count} {name}" for name, count in images.items())
    return [*figures, Figure("Images", sum(images.values()), told), Figure("Epochs", len(summary.record.epochs))]
