"""The command doctor: everything that is, or may be, wrong with the annotations and their images."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from keypipe.annotations.folder import read_folder
from keypipe.annotations.labelme import LabelmeError, LabelmeOptions, parse_labelme
from keypipe.annotations.reader import read_derived
from keypipe.annotations.readings import Folder, Ingested
from keypipe.annotations.shapes import parse_shapes
from keypipe.diagnosis.copies import find_copies
from keypipe.diagnosis.diagnosis import Diagnosis, diagnose
from keypipe.diagnosis.duplicates import find_duplicates
from keypipe.diagnosis.findings import Finding, at_or_above, count_findings, put_splits, sort_findings
from keypipe.diagnosis.pixel_checks import find_narrow_ranges
from keypipe.drawing.pictures import RgbImage, draw_finding, draw_pair, encode_jpeg
from keypipe.errors import AnnotationError
from keypipe.images.media import read_image
from keypipe.images.near_duplicates import near_duplicates
from keypipe.images.pixels import PixelFacts, read_pixels
from keypipe.keypoints.instances import AnnotatedImage
from keypipe.keypoints.skeleton import Schema
from keypipe.splits.manifest import USED, read_manifest
from tasks.convert import ConvertParams
from tasks.pages.doctor import MAX_PICTURES, to_report
from tasks.pages.reports import write_report
from tasks.progress import Progress, tell_nobody
from tasks.workspace import params as read
from tasks.workspace.places import MANIFEST, PARSED, PIXELS, RAW, REPORT_HTML, report_folder
from tasks.workspace.program import replacing
from tasks.workspace.scratch import scratch_folder
from tasks.workspace.verdict import DoctorParams, format_counts, without_ignored

REPORT = report_folder("doctor")
_PICTURE_WH = (240, 180)
_PICTURE_QUALITY = 72
_DEFAULT_INPUT_PX = 640  # Ultralytics' imgsz


class Examined(msgspec.Struct, frozen=True):
    """What the doctor found.

    Attributes:
        headline: in a few words.
        findings: all of them, sorted.
        stops: number of findings that are as grave as ``doctor.fail_on`` says.
        summary: the machine-readable report.
        page: the page for people.
    """

    headline: str
    findings: list[Finding]
    stops: int
    summary: dict[str, Any]
    page: Path


def examine(
    root: Path, folder: Path | None = None, progress: Progress | None = None, encoding: str | None = None
) -> Examined:
    """Examine the workspace's raw folder, or another one, by the workspace's parameters; write the report.

    Args:
        root: the workspace.
        folder: another folder of labelme files; the split is then left out.
        progress: told how far it is.
        encoding: of files that are neither UTF-8 nor UTF-16, instead of ``convert.encoding``.

    Raises:
        ConfigError: the parameters are wrong.
        AnnotationError: the folder is absent or holds no JSON.
    """
    document = read.read_params(root)
    train = document.get("train") or {}
    convert = read.load_section(document, "convert", ConvertParams)
    imgsz = train.get("imgsz", _DEFAULT_INPUT_PX)
    return run(
        read.load_section(document, "doctor", DoctorParams),
        convert.model_copy(update={"encoding": encoding or convert.encoding}),
        read.load_schema(document),
        root,
        folder,
        input_px=imgsz if isinstance(imgsz, int) else _DEFAULT_INPUT_PX,
        progress=progress,
    )


def run(
    params: DoctorParams,
    convert: ConvertParams,
    schema: Schema,
    root: Path,
    folder: Path | None = None,
    *,
    input_px: int = _DEFAULT_INPUT_PX,
    progress: Progress | None = None,
) -> Examined:
    """Examine a raw folder and write ``reports/doctor``.

    Args:
        params: what is reported, and what stops.
        convert: how the annotations are read.
        schema: classes and keypoints.
        root: the workspace.
        folder: the folder; default: the workspace's.
        input_px: side of the model's input, pixels.
        progress: told how far it is.
    """
    raw = folder or root / RAW
    options = convert.options()
    cache = None if folder else root / PARSED
    tell = progress or tell_nobody
    found = read_folder(
        raw, schema, options, convert.unlabelled_images, cache=cache, progress=partial(tell, "reading annotations")
    )
    splits = {} if folder else _read_splits(root, found)
    diagnosis = diagnose(found, raw, schema, splits, input_px)
    with scratch_folder(root, "doctor") as scratch:
        look = _Pictures(raw, scratch, schema, options)
        images = _list_images(found, look)
        files = {image.md5: look.path(image.path) for image in images}
        facts = read_pixels(files, root / PIXELS, progress=partial(tell, "looking at the images"))
        clusters = near_duplicates(facts)
        findings = [
            *diagnosis.findings,
            *_find_damage(images, facts, diagnosis.findings),
            *find_narrow_ranges(images, facts),
            *find_duplicates(images, splits, clusters),
            *find_copies(images, facts, splits, clusters, lambda path: look.path(path).read_bytes()),
        ]
        findings = without_ignored(sort_findings(put_splits(findings, splits)), params)
        diagnosis = msgspec.structs.replace(diagnosis, findings=findings)
        pictures = look.draw(findings)
    summary = summarise(diagnosis, found, params)
    shown = str(raw.relative_to(root)) if raw.is_relative_to(root) else str(raw)
    with replacing(root, REPORT) as report:
        report.mkdir()
        written = write_report(report, summary, to_report(summary, diagnosis, pictures, schema, shown))
    stops = len(at_or_above(findings, params.fail_on))
    return Examined(summary["headline"], findings, stops, written, root / REPORT / REPORT_HTML)


def _read_splits(root: Path, folder: Folder) -> dict[str, str]:
    """Return the split of every image that the manifest uses, and of those that have moved, known by their content."""
    used = [line for line in read_manifest(root / MANIFEST).lines if line.state == USED]
    by_md5 = {line.md5: line.split for line in used}
    known = {(line.image, line.md5) for line in used}  # of copies each keeps its own
    images = [reading.file.image for reading in folder.files.readings() if reading.file.image]
    moved = [image for image in images if image.md5 in by_md5 and (image.path, image.md5) not in known]
    return {line.image: line.split for line in used} | {image.path: by_md5[image.md5] for image in moved}


def _list_images(folder: Folder, look: _Pictures) -> list[AnnotatedImage]:
    """List all images of the folder, also those of files at fault and those without annotations."""
    images: list[AnnotatedImage] = []
    for file in folder.files:
        if file.image:
            images.append(file.image)
            if file.derived:
                look.keep(file)
        elif file.raw_image:
            images.append(look.describe(file.raw_image, file.source))
    images += [look.describe(name, name) for name in folder.unlabelled]
    return list({image.path: image for image in images}.values())


def _find_damage(
    images: Sequence[AnnotatedImage], facts: Mapping[str, PixelFacts], known: Sequence[Finding]
) -> list[Finding]:
    """Make findings of images whose pixels cannot all be read, unless reading the annotations told already."""
    told = {found.file for found in known if found.kind in _NO_PIXELS}
    return [
        Finding(
            kind="bad-image",
            severity="error",
            file=image.source,
            message=f"{image.path.partition('/')[2]}: {facts[image.md5].error}",
            fix="put the image beside the JSON under the same name, or restore it",
            image=image.path,
        )
        for image in images
        if facts[image.md5].error and image.source not in told
    ]


_NO_PIXELS = {"bad-image", "image-not-read", "image-without-range", "no-image"}
"""Kinds of findings of images whose pixels need not be looked at."""


# ---------------------------------------------------------------------------------------- pictures


class _Pictures:
    """Finds the images of a folder and draws findings on them."""

    def __init__(self, raw: Path, scratch: Path, schema: Schema, options: LabelmeOptions) -> None:
        self._raw = raw
        self._scratch = scratch
        self._schema = schema
        self._options = options
        self._derived: dict[str, Path] = {}

    def keep(self, file: Ingested) -> None:
        """Put an image that is not usable where it lies into a scratch folder."""
        assert file.image is not None
        path = self._scratch / f"{len(self._derived)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(read_derived(self._raw, file, self._options.depth, self._options.encoding))
        self._derived[file.image.path] = path

    def path(self, image: str) -> Path:
        """Return where an image lies that is named relative to ``data/``."""
        return self._derived.get(image) or self._raw / image.partition("/")[2]

    def describe(self, name: str, source: str) -> AnnotatedImage:
        """Describe an image that was not converted: its content, no objects."""
        content = (self._raw / name).read_bytes()
        return AnnotatedImage(
            f"raw/{name}", (1, 1), hashlib.md5(content, usedforsecurity=False).hexdigest(), (), source
        )

    def draw(self, findings: Sequence[Finding]) -> dict[Finding, bytes]:
        """Draw the first findings of every kind, as the bytes of JPEG files; each image is read once."""
        chosen: dict[str, list[Finding]] = defaultdict(list)
        drawn_of_kind: dict[str, int] = defaultdict(int)
        for found in findings:
            if found.image and drawn_of_kind[found.kind] < MAX_PICTURES:
                drawn_of_kind[found.kind] += 1
                chosen[found.image].append(found)
        pictures: dict[Finding, bytes] = {}
        for image, members in chosen.items():
            pixels = self._read(image)
            if pixels is None:
                continue
            for found in members:
                picture = self._draw(found, pixels)
                pictures[found] = encode_jpeg(picture, quality=_PICTURE_QUALITY)
        return pictures

    def _draw(self, found: Finding, pixels: RgbImage) -> RgbImage:
        other = self._read(found.others[-1]) if found.others else None
        if other is not None:
            return draw_pair(other, pixels, _PICTURE_WH)
        instances = self._read_instances(found.file, (pixels.shape[1], pixels.shape[0]))
        return draw_finding(
            pixels,
            instances,
            self._schema,
            box=found.box_xyxy,
            points=found.points,
            expected=found.expected,
            names=found.keypoints,
            size_wh=_PICTURE_WH,
        )

    def _read(self, image: str) -> RgbImage | None:
        try:
            return np.ascontiguousarray(read_image(self.path(image))[..., ::-1])
        except AnnotationError:
            return None

    def _read_instances(self, source: str, size_wh: tuple[int, int]) -> list[Any]:
        if not source.lower().endswith(".json"):
            return []
        try:
            file = parse_labelme((self._raw / source).read_bytes(), self._options.encoding)
        except LabelmeError:
            return []
        return parse_shapes(file, size_wh, self._schema, self._options, source).instances


# ------------------------------------------------------------------------------------------ report


def summarise(diagnosis: Diagnosis, folder: Folder, params: DoctorParams) -> dict[str, Any]:
    """Build the machine-readable report; equal input gives equal values."""
    findings = diagnosis.findings
    return {
        "headline": f"{len(folder.files)} annotation files, {format_counts(findings)}",
        "annotation_files": len(folder.files),
        "images_without_annotations": len(folder.unlabelled),
        "fail_on": params.fail_on,
        "stopping": len(at_or_above(findings, params.fail_on)),
        "ignored_kinds": params.ignore,
        "counts": count_findings(findings),
        "classes": diagnosis.classes,
        "findings": findings,
    }
