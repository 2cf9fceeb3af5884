"""Stage convert: labelme annotations to one COCO-keypoints file."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from pydantic import Field, field_validator

from keypipe.annotations.folder import near_misses, read_folder
from keypipe.annotations.labelme import LabelmeOptions
from keypipe.annotations.reader import read_derived
from keypipe.annotations.readings import Folder, Ingested
from keypipe.dataset.coco_writer import write_coco
from keypipe.diagnosis.diagnosis import Diagnosis, diagnose
from keypipe.diagnosis.duplicates import find_duplicates
from keypipe.diagnosis.file_checks import find_one_name
from keypipe.diagnosis.findings import count_findings, sort_findings
from keypipe.errors import ConfigError, DatasetError, FaultsError, format_count, sort_faults
from keypipe.files.texts import DOUBTFUL, check_encoding, is_doubtful
from keypipe.images.depth import Depth
from keypipe.keypoints.instances import AnnotatedImage
from keypipe.keypoints.packed import Packed
from keypipe.keypoints.skeleton import Schema
from tasks.pages.convert import draw_examples, to_report
from tasks.pages.reports import write_report
from tasks.progress import Progress, tell_in_lines
from tasks.workspace import params as read
from tasks.workspace.changes import schema_changes
from tasks.workspace.places import COCO, DERIVED, PARAMS_FILE, PARSED, RAW, report_folder
from tasks.workspace.program import replacing, run_program, say, write_json
from tasks.workspace.verdict import DoctorParams, stop_at, without_ignored

REPORT = report_folder("convert")


class ConvertParams(read.Section):
    """The section ``convert`` of ``params.yaml``."""

    occluded_flag: str = "occluded"
    occluded_suffix: str = ""
    occluded_description: str = "occluded"
    occluded: Literal["train", "ignore"] = "train"
    unknown_labels: Literal["ignore", "fail"] = "ignore"
    unlabelled_images: Literal["ignore", "negative"] = "ignore"
    box_from_points: float | None = Field(default=None, ge=0, le=1)
    box_from: Literal["rectangle", "outline"] = "rectangle"
    keypoint_from: Literal["point", "circle"] = "point"
    difficult: Literal["occluded", "ignore"] = "occluded"
    machine: Literal["skip", "refuse", "take"] = "skip"
    depth: Depth = "cut"
    encoding: str | None = Field(default=None, description="of JSON that is neither UTF-8 nor UTF-16, such as gb18030")
    on_error: Literal["fail", "quarantine"] = Field(default="fail")

    @field_validator("encoding")
    @classmethod
    def _is_encoding(cls, value: str | None) -> str | None:
        try:
            return value and check_encoding(value)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    def options(self) -> LabelmeOptions:
        """Return how labels become keypoints."""
        return LabelmeOptions(
            self.occluded_flag,
            self.occluded_suffix,
            self.occluded_description,
            self.occluded,
            self.unknown_labels,
            self.box_from_points,
            self.depth,
            self.encoding,
            self.box_from,
            self.keypoint_from,
            self.difficult,
            self.machine,
        )


def run(params: ConvertParams, doctor: DoctorParams, schema: Schema, root: Path) -> None:
    """Convert the raw folder.

    Args:
        params: the stage's parameters.
        doctor: which findings of the diagnosis are reported, and which stop the stage.
        schema: classes and keypoints to look for.
        root: the workspace.

    Raises:
        FaultsError: the annotations have faults and ``on_error`` is ``fail``; nothing is written.
        DatasetError: no image with an object of the schema is left, or a finding is as grave as ``doctor.fail_on``.
    """
    for change in schema_changes(root, schema):
        say(f"convert: since the last run: {change}")
    folder = read_raw(params, schema, root)
    for finding in find_one_name(folder.faults, schema):
        raise DatasetError(f"{finding.message}: {finding.fix}")
    if folder.faults and params.on_error == "fail":
        advice = "mend them, or set convert.on_error: quarantine to go on without these images"
        raise FaultsError(folder.faults, advice)
    _check_drawn_alike(folder)
    overview = look_over(folder)
    _check_any_object(overview, folder, schema)
    diagnosis = _diagnose(root, folder, schema, overview, doctor)
    summary = summarise(folder, overview, schema, diagnosis)
    with (
        replacing(root, DERIVED) as derived,
        replacing(root, COCO) as coco,
        replacing(root, REPORT) as report,
    ):
        derived.mkdir()
        _write_derived(derived, root / RAW, folder, overview, params.depth)
        write_coco(coco, overview.images(folder), schema, params.depth)
        report.mkdir()
        pictures = draw_examples(root, folder, overview.with_objects, derived, schema)
        write_report(report, summary, to_report(summary, folder.faults, diagnosis.findings, pictures))
    if elsewhere := summary["images_found_elsewhere"]:
        where = f"{len(elsewhere)} images lie elsewhere than their JSON says, and were found by place or name"
        say(f"convert: {where}; {REPORT} lists them")
    if overview.difficult:
        hidden = format_count(overview.difficult, "keypoint")
        say(f"convert: {hidden} with X-AnyLabeling's mark difficult taken for occluded (convert.difficult)")
    if overview.unconfirmed:
        say(f"convert: {_wait(overview)}: correct them in labelme, and tick the image's flag confirmed")
    say(f"convert: {summary['headline']}")


class Overview(msgspec.Struct):
    """What all files of a folder have in common, without their objects.

    Attributes:
        set_aside: files left out for their faults.
        order: numbers of the files whose image is converted, in the order of the images' paths.
        with_objects: the same, of images with objects alone.
        alike: numbers of files whose image has, in all likelihood, the same bytes as another's.
        derived: numbers of files whose image is made anew, those set aside left out.
        noted: files with something to tell.
        derived_images: paths of images that are made anew.
        clipped: boxes and keypoints moved onto the image, of all files.
        occluded_ignored: occluded keypoints treated as not labelled, of all files.
        difficult: keypoints that X-AnyLabeling's mark made occluded, of all files.
        unconfirmed: files left out for shapes that a model drew and nobody has confirmed, with their number.
    """

    set_aside: set[str]
    order: Sequence[int] = ()
    with_objects: Sequence[int] = ()
    alike: Sequence[int] = ()
    derived: list[int] = []
    noted: list[Ingested] = []
    derived_images: list[str] = []
    clipped: int = 0
    occluded_ignored: int = 0
    difficult: int = 0
    unconfirmed: dict[str, int] = {}

    def images(self, folder: Folder) -> Iterator[tuple[AnnotatedImage, Packed]]:
        """Yield the converted images, in the order of their paths, with their objects packed."""
        for reading in folder.files.readings(self.order):
            assert reading.file.image is not None
            yield reading.file.image, reading.objects


def _wait(overview: Overview) -> str:
    files = format_count(len(overview.unconfirmed), "image")
    shapes = format_count(sum(overview.unconfirmed.values()), "shape")
    return f"{files} left out, with {shapes} that a model drew and nobody has confirmed (convert.machine)"


def look_over(folder: Folder) -> Overview:
    """Go through the files of a folder once."""
    over = Overview({fault.file for fault in folder.faults})
    numbers, paths, has_objects, digests = array("i"), list[str](), bytearray(), array("Q")
    for number, reading in enumerate(folder.files.readings()):
        file = reading.file
        over.clipped += file.clipped
        over.occluded_ignored += file.occluded_ignored
        over.difficult += file.difficult
        if file.machine and not file.faults:
            over.unconfirmed[file.source] = file.machine
        if file.derived_boxes or file.by_place or file.by_list_order or file.found_by or file.shared_groups:
            over.noted.append(file)
        if file.image is None:
            continue
        if file.derived:
            over.derived_images.append(file.image.path)
        if file.source in over.set_aside:
            continue
        if file.derived:
            over.derived.append(number)
        numbers.append(number)
        paths.append(file.image.path)
        has_objects.append(len(reading.objects) > 0)
        digests.append(int(file.image.md5[:16], 16))
    order = sorted(range(len(paths)), key=paths.__getitem__)
    over.order = array("i", (numbers[position] for position in order))
    over.with_objects = array("i", (numbers[position] for position in order if has_objects[position]))
    values, counts = np.unique(np.frombuffer(digests, dtype=np.uint64), return_counts=True)
    repeated = np.isin(np.frombuffer(digests, dtype=np.uint64), values[counts > 1])
    over.alike = [numbers[position] for position in np.flatnonzero(repeated)]
    return over


def read_raw(params: ConvertParams, schema: Schema, root: Path, progress: Progress | None = None) -> Folder:
    """Read the raw folder as the parameters say; faults are collected, not raised.

    Args:
        params: how to read it.
        schema: classes and keypoints.
        root: the workspace.
        progress: is told how many files are read; None prints it.
    """
    tell = partial(progress, "reading annotations") if progress else partial(tell_in_lines("convert"), "files read")
    return read_folder(
        root / RAW, schema, params.options(), params.unlabelled_images, cache=root / PARSED, progress=tell
    )


def _diagnose(root: Path, folder: Folder, schema: Schema, overview: Overview, params: DoctorParams) -> Diagnosis:
    """Run the checks that need no pixels; what was set aside for its faults stops nothing."""
    diagnosis = diagnose(folder, root / RAW, schema)
    alike = [image for number in overview.alike if (image := folder.files[number].image)]
    findings = without_ignored(sort_findings([*diagnosis.findings, *find_duplicates(alike, {})]), params)
    stop_at([finding for finding in findings if finding.file not in overview.set_aside], params)
    return msgspec.structs.replace(diagnosis, findings=findings)


def _check_drawn_alike(folder: Folder) -> None:
    """Refuse to set aside a large part of a folder that is drawn in another way, and not wrong."""
    for kind, (what, advice) in _DRAWN_OTHERWISE.items():
        files = {fault.file for fault in folder.faults if fault.kind == kind}
        if len(files) > _FEW * len(folder.files):
            raise DatasetError(
                f"{what} in {len(files)} of {len(folder.files)} files of {RAW}, such as {min(files)}:"
                f" convert.on_error: quarantine would leave them all out; {advice}"
            )


_DRAWN_OTHERWISE = {
    "outline-without-box": (
        "objects with an outline and no rectangle",
        "set convert.box_from: outline, which takes the box around polygons and masks",
    ),
    "circle-for-keypoint": (
        "keypoints drawn as circles",
        "set convert.keypoint_from: circle, which takes their centres",
    ),
    "wrong-shape-type": (
        "classes or keypoints drawn with other shapes",
        "draw rectangles and points, which labelme's window or a script can do, or give those shapes another label",
    ),
}
_FEW = 0.1  # of the files; as many may be slips, and are set aside like others


def _check_any_object(overview: Overview, folder: Folder, schema: Schema) -> None:
    if overview.with_objects:
        return
    if overview.unconfirmed:
        raise DatasetError(f"no object in {RAW}: {_wait(overview)}")
    seen = ", ".join(f"{label} ({count})" for label, count in folder.ignored.most_common(10)) or "none"
    raise DatasetError(
        f"no object of the classes {', '.join(schema.class_names)} in {RAW}; shapes that are there: {seen};"
        " correct schema.classes in params.yaml, or the labels"
    )


def _write_derived(derived: Path, raw: Path, folder: Folder, overview: Overview, depth: Depth) -> None:
    """Write the derived images, and a list of them: without any the folder would be empty, which DVC warns of."""
    written: dict[str, str] = {}
    for number in overview.derived:
        file = folder.files[number]
        assert file.image is not None
        name = file.image.path.removeprefix("derived/")
        path = derived / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(read_derived(raw, file, depth, folder.encoding))
        written[name] = file.source
    write_json(derived / "index.json", written)


def summarise(folder: Folder, overview: Overview, schema: Schema, diagnosis: Diagnosis) -> dict[str, Any]:
    """Count what was converted, passed over and set aside.

    Args:
        folder: what reading found.
        overview: of its files.
        schema: classes and keypoints.
        diagnosis: of the converted images, and findings of all.

    Returns:
        The machine-readable report; equal input gives equal values.
    """
    n_images = len(overview.order)
    n_objects = sum(item.objects for item in diagnosis.classes)
    headline = f"{n_images} images, {n_objects} objects"
    derived = sum(len(file.derived_boxes) for file in overview.noted)
    if derived:
        headline += f", {derived} boxes derived from points"
    if overview.unconfirmed:
        headline += f", {len(overview.unconfirmed)} unconfirmed left out"
    if overview.set_aside:
        headline += f", {len(overview.set_aside)} set aside"
    return {
        "headline": headline,
        "annotation_files": len(folder.files),
        "images": n_images,
        "negatives": n_images - len(overview.with_objects),
        "objects": n_objects,
        "objects_by_class": {item.name: item.objects for item in diagnosis.classes},
        "objects_missing_keypoints": sum(item.incomplete for item in diagnosis.classes),
        "keypoints": {
            item.name: {
                keypoint.name: {
                    "visible": keypoint.visible,
                    "occluded": keypoint.occluded,
                    "not_labelled": keypoint.not_labelled,
                }
                for keypoint in item.keypoints
            }
            for item in diagnosis.classes
        },
        "ignored_shapes": dict(sorted(folder.ignored.items())),
        "misspelt_perhaps": near_misses(folder.ignored, schema),
        "unlabelled_images": folder.unlabelled,
        "unread_images": folder.unread,
        "images_found_elsewhere": {file.source: file.raw_image for file in overview.noted if file.found_by},
        "read_by_alias": dict(sorted(folder.aliased.items())),
        "boxes_from_points": {file.source: file.derived_boxes for file in overview.noted if file.derived_boxes},
        "decided_by_place": {file.source: file.by_place for file in overview.noted if file.by_place},
        "decided_by_list_order": {file.source: file.by_list_order for file in overview.noted if file.by_list_order},
        "groups_of_several_objects": {file.source: file.shared_groups for file in overview.noted if file.shared_groups},
        "occluded_by_difficult": overview.difficult,
        "unconfirmed": overview.unconfirmed,
        "moved_onto_the_image": overview.clipped,
        "occluded_ignored": overview.occluded_ignored,
        "derived_images": sorted(overview.derived_images),
        "set_aside": sorted(overview.set_aside),
        "findings": diagnosis.findings,
        "finding_counts": count_findings(diagnosis.findings),
        "faults": sort_faults(folder.faults),
    }


def main(root: Path) -> None:
    """Run the stage with the workspace's parameters.

    Raises:
        ConfigError: their names may be in another encoding.
    """
    document = read.read_params(root)
    if is_doubtful((root / PARAMS_FILE).read_bytes()):
        raise ConfigError(f"{PARAMS_FILE}: {DOUBTFUL}")
    run(
        read.load_section(document, "convert", ConvertParams),
        read.load_section(document, "doctor", DoctorParams),
        read.load_schema(document),
        root,
    )


if __name__ == "__main__":
    run_program("convert", main)
