"""The page about a conversion: what was read, passed over, mended and set aside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keypipe.annotations.readings import Folder
from keypipe.diagnosis.findings import Finding
from keypipe.drawing.pictures import draw_instances, encode_jpeg
from keypipe.errors import Fault
from keypipe.images.media import read_image
from keypipe.keypoints.skeleton import Schema
from keypipe.report.page import (
    BarChart,
    Faults,
    Figure,
    Gallery,
    GroupedBarChart,
    KeyValues,
    Note,
    Notes,
    Picture,
    Report,
    Section,
    Table,
)
from tasks.pages.findings import to_section
from tasks.workspace.places import RAW

_EXAMPLES = 12
_EXAMPLE_PX = 480


def to_report(summary: dict[str, Any], faults: list[Fault], findings: list[Finding], pictures: list[Picture]) -> Report:
    """Build the page that a person reads.

    Args:
        summary: the machine-readable report.
        faults: of the files that are set aside.
        findings: of the diagnosis.
        pictures: see ``draw_examples``.
    """
    notes = _notes(summary)
    sections: list[Section] = [
        *([Notes("Worth a look", notes)] if notes else []),
        Gallery("As converted", pictures, note="Some images with their boxes and keypoints; rings are occluded."),
        BarChart("Objects by class", list(summary["objects_by_class"].items())),
        *(_chart_keypoints(name, keypoints) for name, keypoints in summary["keypoints"].items()),
        _details(summary),
        *_count_labels("Labels read by an alias", "Label and name", summary["read_by_alias"]),
        *_count_labels("Shapes outside the schema, ignored", "Shape and label", summary["ignored_shapes"]),
    ]
    told = {(fault.file, fault.shape, fault.kind) for fault in faults}
    other = [found for found in findings if (found.file, found.shape, found.kind) not in told]
    if other:
        note = "Found without the pixels. `keypipe doctor` looks at these as well, and shows pictures."
        sections.append(to_section(other, {}, RAW.as_posix(), note))
    if faults:
        sections.append(Faults("Set aside for these faults", faults))
    figures = [
        Figure("Images", summary["images"]),
        Figure("Objects", summary["objects"]),
        Figure("Classes", len(summary["objects_by_class"])),
        Figure("Set aside", len(summary["set_aside"])),
    ]
    return Report("Converted annotations", summary["headline"], sections, figures, "convert")


def _chart_keypoints(class_name: str, keypoints: dict[str, dict[str, int]]) -> Section:
    states = {
        state: [counts[state] for counts in keypoints.values()] for state in ("visible", "occluded", "not_labelled")
    }
    series = {state.replace("_", " "): values for state, values in states.items() if any(values)}
    return GroupedBarChart(f"Keypoints of {class_name}", list(keypoints), series)


def _details(summary: dict[str, Any]) -> Section:
    by_order = _count(summary["decided_by_list_order"])
    return KeyValues(
        "Details",
        [
            ("Annotation files", summary["annotation_files"]),
            ("Images without objects (negatives)", summary["negatives"]),
            ("Objects with keypoints not labelled", summary["objects_missing_keypoints"]),
            ("Boxes derived from points", _count(summary["boxes_from_points"])),
            ("Keypoints in overlapping boxes, decided by their place", _count(summary["decided_by_place"])),
            *([("Keypoints in overlapping boxes, decided by the order in the file", by_order)] if by_order else []),
            ("Boxes and keypoints moved onto the image", summary["moved_onto_the_image"]),
            ("Occluded keypoints treated as not labelled", summary["occluded_ignored"]),
            ("Keypoints occluded by X-AnyLabeling's mark difficult", summary["occluded_by_difficult"]),
            ("Images left out, unconfirmed", len(summary["unconfirmed"])),
            ("Images without annotation file", len(summary["unlabelled_images"])),
            ("Images of formats that are not read", len(summary["unread_images"])),
            ("Images found elsewhere than their JSON says", len(summary["images_found_elsewhere"])),
            ("Images repaired or taken from imageData", len(summary["derived_images"])),
        ],
    )


def _count_labels(title: str, what: str, counts: dict[str, int]) -> list[Section]:
    """Return a table, or nothing where there is nothing to count."""
    return [Table(title, [what, "Count"], [[name, count] for name, count in counts.items()])] if counts else []


def draw_examples(
    root: Path, folder: Folder, with_objects: Sequence[int], derived: Path, schema: Schema
) -> list[Picture]:
    """Draw some images with objects, evenly spread over the dataset.

    Args:
        root: the workspace.
        folder: what reading found.
        with_objects: numbers of the files whose image has objects.
        derived: folder of the derived images, which may not be in place yet.
        schema: classes and skeletons.
    """
    chosen = np.unique(np.linspace(0, len(with_objects) - 1, min(_EXAMPLES, len(with_objects))).astype(int))
    pictures: list[Picture] = []
    for image in (folder.files[with_objects[position]].image for position in chosen):
        assert image is not None
        place, _, name = image.path.partition("/")
        path = derived / name if place == "derived" else root / "data" / image.path
        pixels = np.ascontiguousarray(read_image(path)[..., ::-1])
        drawn = draw_instances(pixels, image.instances, schema, longest_side_px=_EXAMPLE_PX)
        pictures.append(Picture(encode_jpeg(drawn), image.path.removeprefix("raw/")))
    return pictures


def _notes(summary: dict[str, Any]) -> list[Note]:
    notes = [
        Note("warning", f"Label {label!r} is not in the schema and was ignored; did you mean {known!r}?")
        for label, known in summary["misspelt_perhaps"].items()
    ]
    notes += [
        Note("info", f"{file}: boxes derived from points, beginning with the shapes {shapes}")
        for file, shapes in summary["boxes_from_points"].items()
    ]
    notes += [
        Note("info", f"{file}: boxes overlap; where the keypoints usually lie decided whose the shapes {shapes} are")
        for file, shapes in summary["decided_by_place"].items()
    ]
    notes += [
        Note("warning", f"{file}: only the order in the file tells whose keypoints the shapes {shapes} are")
        for file, shapes in summary["decided_by_list_order"].items()
    ]
    notes += [
        Note("warning", f"{file}: objects share a group; containment told which points are theirs (shapes {shapes})")
        for file, shapes in summary["groups_of_several_objects"].items()
    ]
    if summary["unlabelled_images"]:
        count = len(summary["unlabelled_images"])
        text = f"{count} images have no annotation file; convert.unlabelled_images says what they are"
        notes.append(Note("info", text))
    if summary["unread_images"]:
        count = len(summary["unread_images"])
        text = f"{count} images are of a format that is not read, such as {summary['unread_images'][0]}"
        notes.append(Note("info", text))
    if summary["images_found_elsewhere"]:
        count = len(summary["images_found_elsewhere"])
        json, image = next(iter(summary["images_found_elsewhere"].items()))
        text = f"{count} images lie elsewhere than their JSON says, such as {image}, which was taken for {json}"
        notes.append(Note("info", text))
    return notes


def _count(shapes_by_file: dict[str, list[int]]) -> int:
    return sum(len(shapes) for shapes in shapes_by_file.values())
