"""What is wrong, or probably wrong, with a folder of annotations: every check that needs no pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from keypipe.annotations.readings import Folder
from keypipe.diagnosis.class_checks import ClassStatistics, Cloud, check_class
from keypipe.diagnosis.columns import Gathering
from keypipe.diagnosis.file_checks import (
    find_by_order,
    find_format,
    find_labels,
    find_one_name,
    find_place,
    find_shared_groups,
    find_spellings,
    find_unconfirmed,
    locate_faults,
)
from keypipe.diagnosis.findings import Finding, Severity, find_lacking_splits, put_splits, sort_findings
from keypipe.images.formats import UNREAD_FIX, name_unread
from keypipe.keypoints.skeleton import Schema

_RARE_KEYPOINT = 0.2
_RARE_CLASS = 0.05  # of the objects of the most frequent class
_FEW_OBJECTS = 20
_ENOUGH = 10  # objects below which no share is meaningful


class Diagnosis(msgspec.Struct, frozen=True):
    """Findings, sorted; figures for each class; and the clouds of those classes that have objects enough."""

    findings: list[Finding]
    classes: list[ClassStatistics]
    clouds: list[Cloud]


def diagnose(
    folder: Folder,
    raw: Path,
    schema: Schema,
    splits: Mapping[str, str] | None = None,
    input_px: int | None = None,
) -> Diagnosis:
    """Run every check that needs no pixels.

    Args:
        folder: what reading the raw folder gave; images at fault take no part in what compares objects.
        raw: the raw folder; files with faults or misspelt labels are read once more to find the shapes.
        schema: classes and keypoints.
        splits: split of each image, by its path relative to ``data/``.
        input_px: side of the model's input in pixels; None: boxes are measured on the image alone.

    Returns:
        Findings and figures, the same in any file order.
    """
    splits = splits or {}
    at_fault = {fault.file for fault in folder.faults}
    gathering = Gathering(folder.files)
    findings = find_one_name(folder.faults, schema)
    told = {"repeated-keypoint"} if findings else set()
    findings += [found for found in locate_faults(folder, raw, schema) if found.kind not in told]
    findings += find_labels(folder, raw, schema)
    findings += find_spellings(folder, schema)
    findings += [_of_unlabelled(name) for name in folder.unlabelled]
    findings += [_of_unread(name) for name in folder.unread]
    for number, reading in enumerate(folder.files.readings()):
        file = reading.file
        findings += [*find_format(file), *find_place(file), *find_shared_groups(file), *find_unconfirmed(file)]
        if file.image and file.source not in at_fault:
            findings += find_by_order(file, raw, folder.encoding)
            gathering.add(number, file.image.size_wh, reading.objects, splits.get(file.image.path, ""))
    classes, clouds = [], []
    for name, skeleton in schema.classes.items():
        statistics, cloud = check_class(gathering.by_class[name], skeleton, input_px, findings)
        classes.append(statistics)
        if cloud:
            clouds.append(cloud)
    findings += _find_imbalance(classes, set(splits.values()))
    return Diagnosis(sort_findings(put_splits(findings, splits)), classes, clouds)


def _of_unlabelled(name: str) -> Finding:
    fix = "annotate it, or say in convert.unlabelled_images what such images are"
    message = "no annotation file speaks of this image"
    return Finding(kind="unlabelled-image", severity="info", file=name, message=message, fix=fix, image=f"raw/{name}")


def _of_unread(name: str) -> Finding:
    message = f"its format ({name_unread(name)}) is not read, and no annotation file speaks of it"
    return Finding(kind="image-not-read", severity="info", file=name, message=message, fix=UNREAD_FIX)


def _find_imbalance(classes: Sequence[ClassStatistics], splits: set[str]) -> list[Finding]:
    findings: list[Finding] = []

    def add(kind: str, severity: Severity, class_name: str, message: str, fix: str, split: str = "") -> None:
        findings.append(
            Finding(kind=kind, severity=severity, file="", message=message, fix=fix, class_name=class_name, split=split)
        )

    most = max((item.objects for item in classes), default=0)
    for item in classes:
        if item.objects == 0:
            fix = "correct the name in schema.classes, annotate some, or leave the class out"
            add("class-without-objects", "warning", item.name, f"no object of class {item.name!r}", fix)
            continue
        if item.objects < _FEW_OBJECTS or item.objects < _RARE_CLASS * most:
            message = f"{item.objects} objects of class {item.name!r}, {most} of the most frequent one"
            add("rare-class", "info", item.name, message, "annotate more of them")
        findings += find_lacking_splits(item.name, item.objects_by_split, splits)
        for keypoint in item.keypoints:
            labelled = keypoint.visible + keypoint.occluded
            if labelled == 0:
                message = f"{keypoint.name!r} of {item.name!r} is labelled nowhere"
                fix = "correct its name in the schema, label it, or leave it out"
                add("keypoint-never-labelled", "warning", item.name, message, fix)
            elif labelled < _RARE_KEYPOINT * item.objects and item.objects >= _ENOUGH:
                message = f"{keypoint.name!r} is labelled in {labelled} of {item.objects} objects of {item.name!r}"
                add("rare-keypoint", "info", item.name, message, "label more of them, or leave it out")
    return findings
