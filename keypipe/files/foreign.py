"""Files of other tools that an importer was handed by mistake: what they are, and what to do instead."""

from __future__ import annotations

import re
from typing import Any

_COCO = "`keypipe import coco` reads it"
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "an archive: unpack it, and give the folder"),
    (b"\x1f\x8b", "an archive: unpack it, and give the folder"),
    (b"\x89HDF", "an HDF5 file"),
    (b"SQLite format 3", "a database"),
    (b"\x80\x04", "a Python pickle, which could run any code: export to a format of text"),
    (b"\x80\x05", "a Python pickle, which could run any code: export to a format of text"),
)
_HDF5: tuple[tuple[str, str], ...] = (
    (".slp", "SLEAP's own file: `keypipe import sleap` reads it"),
    ("collecteddata", "DeepLabCut's labels as HDF5: give the CollectedData*.csv beside it, which holds the same"),
    (".h5", "an HDF5 file, as DeepLabCut and SLEAP write them: DeepLabCut has the same labels as CollectedData*.csv,"
            " and of SLEAP `keypipe import sleap` reads the .slp"),
)  # fmt: skip
_CVAT = "CVAT's own XML: export it from CVAT as `COCO Keypoints 1.0`, and give that folder to `keypipe import coco`"
_SUFFIXES: dict[str, str] = {
    ".slp": "SLEAP's own file: `keypipe import sleap` reads it",
    ".zip": "an archive: unpack it, and give the folder",
    ".xlsx": "an Excel table: save it as CSV",
    ".mat": "a file of Matlab: export the labels to COCO, YOLO or CSV",
    ".parquet": "a Parquet table: export the labels to COCO, YOLO or CSV",
    ".tfrecord": "a TFRecord: export the labels to COCO or YOLO",
}
FOREIGN_SUFFIXES = (".h5", ".xml", ".json", ".csv", *_SUFFIXES)
"""Suffixes of files that may be worth a look, in this order, where a folder holds nothing that an importer wants."""


def describe_file(name: str, start: bytes) -> str | None:
    """Say what a file of another tool is, by its name and its first kilobytes; None if that cannot be told.

    Args:
        name: the file's name.
        start: its first bytes.

    Returns:
        What it is and what to do, without the name.
    """
    lower = name.lower()
    magic = next((told for mark, told in _STARTS if start.startswith(mark)), None)
    if magic and magic.startswith("an HDF5"):
        return next((told for part, told in _HDF5 if part in lower), magic)
    text = next((told for pattern, told in _TEXTS if re.search(pattern, start)), None)
    return magic or text or next((told for suffix, told in _SUFFIXES.items() if lower.endswith(suffix)), None)


_TEXTS = (
    (rb"(?s)<annotations>|<annotation\b.*<skeleton\b", _CVAT),
    (rb"(?s)<annotation\b.*<object\b", "Pascal VOC's XML, which has boxes and no keypoints"),
    (rb"^\s*scorer[,;]", "a table of DeepLabCut: `keypipe import dlc` reads it"),
)


def describe_json(document: Any) -> str | None:
    """Say what the JSON of another tool is; None if that cannot be told.

    Args:
        document: what was parsed.

    Returns:
        What it is and what to do, without the file's name.
    """
    if isinstance(document, list):
        return _describe_list(document)
    if not isinstance(document, dict):
        return None
    keys = {*document}
    if _has_captions(document) and not document.get("categories"):
        keys.discard("categories")
    for wanted, told in _OBJECTS:
        if wanted <= keys:
            return told
    if any(isinstance(value, dict) and {"regions", "filename"} <= value.keys() for value in document.values()):
        return _VIA
    return None


def _has_captions(document: dict[str, Any]) -> bool:
    annotations = document.get("annotations")
    return isinstance(annotations, list) and any(
        isinstance(entry, dict) and "caption" in entry for entry in annotations
    )


_VIA = "a project of VGG's Image Annotator (VIA): export it there as COCO, and `keypipe import coco` reads that"
_LABEL_STUDIO = (
    "Label Studio's own JSON: export it from Label Studio as `COCO`, and give that folder to `keypipe import coco`"
)
_RESULTS = "predictions in COCO's form of results: they are no annotations, and have no images and categories"
_OBJECTS: tuple[tuple[set[str], str], ...] = (
    ({"images", "annotations", "categories"}, f"COCO: {_COCO}"),
    ({"shapes"}, "one of labelme's own files, which need no import: `keypipe init FOLDER` takes them"),
    ({"_via_img_metadata"}, _VIA),
    ({"data", "annotations"}, _LABEL_STUDIO),
    ({"dm_format_version"}, "Datumaro's JSON: export to COCO, which `keypipe import coco` reads"),
    ({"items", "categories"}, "Datumaro's JSON: export to COCO, which `keypipe import coco` reads"),
    ({"objects", "size"}, "Supervisely's JSON: export to COCO, which `keypipe import coco` reads"),
    ({"people", "version"}, "keypoints that OpenPose found: they are no annotations"),
    ({"metadata", "instances"}, "SuperAnnotate's JSON: export it there as COCO, and `keypipe import coco` reads that"),
    ({"project", "file", "metadata"}, _VIA),
    ({"meta_info", "instance_info"}, "predictions of MMPose: they are no annotations"),
    ({"images", "annotations"}, "COCO without categories, such as captions: it has neither boxes nor keypoints"),
)


def _describe_list(document: list[Any]) -> str | None:
    entries = [entry for entry in document[:20] if isinstance(entry, dict)]
    if not entries:
        return None
    for entry in entries:
        if {"data", "annotations"} <= entry.keys() or {"data", "predictions"} <= entry.keys():
            return _LABEL_STUDIO
        if {"annotation_id", "annotator"} & entry.keys():
            return f"{_LABEL_STUDIO} (JSON-MIN is no better)"
        if {"image_id", "score"} <= entry.keys():
            return _RESULTS
        if {"image", "annotations"} <= entry.keys():
            return "CreateML's JSON, which has boxes and no keypoints"
    return None
