"""DeepLabCut's ``CollectedData*.csv`` to the neutral model: keypoints alone, so that boxes are derived from them.

Format: header rows ``scorer``, ``individuals`` (projects with several animals), ``bodyparts`` and ``coords``, then a
row for each image, whose path is one column or three (folder, video, image); an empty cell is not labelled
(https://deeplabcut.github.io/DeepLabCut/docs/standardDeepLabCut_UserGuide.html).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PureWindowsPath
from typing import Any

from keypipe.errors import AnnotationError, Fault
from keypipe.exchange.labels import LabelledImage, LabelSet, add_object
from keypipe.files.texts import parse_csv
from keypipe.keypoints.instances import Keypoint
from keypipe.keypoints.names import normal_form
from keypipe.keypoints.skeleton import Schema, Skeleton, find_pairs

UNIQUE = "single"
"""The individual under which a project with several animals keeps the body parts that are nobody's."""

_HEADERS = ("scorer", "individuals", "bodyparts", "coords")


def parse_collected_data(
    text: str,
    name: str = "CollectedData.csv",
    class_name: str = "animal",
    margin: float = 0.1,
    config: Mapping[str, Any] | None = None,
) -> LabelSet:
    """Read one labelled video.

    Args:
        text: of the CSV file.
        name: the file's name, for faults.
        class_name: what to call the animals; body parts that are nobody's become the class ``single``.
        margin: of the derived boxes, as a share of the longer side of the points' extent.
        config: the project's ``config.yaml``; its ``skeleton`` gives the edges.

    Returns:
        Images under the paths of the file. Animals with fewer than two different points have no box, and are ``loose``.

    Raises:
        AnnotationError: not such a file, or a body part of one animal stands there twice or lacks a column.
    """
    text = text.removeprefix("\ufeff").lstrip()
    delimiter = text.removeprefix("scorer")[:1]
    delimiter = delimiter if delimiter in {";", "\t"} else ","
    rows = [row for row in parse_csv(text, name, delimiter) if any(row)]
    header = {row[0]: row for row in rows[:4] if row[0] in _HEADERS}
    if not {"scorer", "bodyparts", "coords"} <= header.keys():
        raise AnnotationError(f"{name}: the first rows must be {', '.join(_HEADERS)}, as DeepLabCut writes them")
    coords = header["coords"]
    if len({len(row) for row in header.values()}) > 1:
        raise AnnotationError(f"{name}: its first rows have different numbers of columns")
    start = next((index for index, value in enumerate(coords) if index and value), len(coords))
    columns = _find_columns(header, start, class_name, name)
    labels = LabelSet(_read_schema(columns, config or {}), [], Counter(), Counter(), [])
    if len(set(header["scorer"][start:])) > 1:
        labels.losses["names of scorers"] += len(set(header["scorer"][start:]))
    if delimiter != ",":  # a spreadsheet's; then numbers may have decimal commas
        labels.repairs["tables with semicolons or tabs between values, as spreadsheets save them"] += 1
        rows = [[*row[:start], *(cell.replace(",", ".") for cell in row[start:])] for row in rows]
    for number, row in enumerate(rows[len(header) :], start=len(header)):
        path = "/".join(part for part in row[:start] if part)
        image = LabelledImage(PureWindowsPath(path).as_posix(), [])
        for (animal_class, _), parts in columns.items():
            keypoints = _read_keypoints(row, parts, name, number, labels)
            if keypoints:
                add_object(labels, image, animal_class, None, keypoints, margin)
        image.faulty = any(fault.shape == number for fault in labels.faults[-1:])
        if image.instances or image.loose:
            labels.images.append(image)
        else:  # people skip frames; they are not images without animals
            labels.losses["frames without any labelled point, left out"] += 1
    return labels


Columns = dict[tuple[str, str], dict[str, tuple[int, int]]]
"""(class, individual) -> body part -> the columns of x and y."""


def _find_columns(header: Mapping[str, Sequence[str]], start: int, class_name: str, file: str) -> Columns:
    individuals = header.get("individuals", [""] * len(header["coords"]))
    found: dict[tuple[str, str], dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for index in range(start, len(header["coords"])):
        individual, part, coord = individuals[index], normal_form(header["bodyparts"][index]), header["coords"][index]
        if not part:
            raise AnnotationError(f"{file}: column {index + 1} has no body part in the row `bodyparts`")
        places = found[UNIQUE if individual == UNIQUE else class_name, individual][part]
        if coord in places:
            raise AnnotationError(
                f"{file}: the body part {_name_part(part, individual)} stands there twice, with {coord!r} in columns"
                f" {places[coord] + 1} and {index + 1}; rename one, or delete its columns"
            )
        places[coord] = index
    for (_, individual), parts in found.items():
        for part, places in parts.items():
            if not {"x", "y"} <= places.keys():
                raise AnnotationError(
                    f"{file}: the body part {_name_part(part, individual)} has columns for {', '.join(places)}, and"
                    " needs x and y; correct the row `coords`"
                )
    return {key: {part: (places["x"], places["y"]) for part, places in parts.items()} for key, parts in found.items()}


def _name_part(part: str, individual: str) -> str:
    return f"{part!r} of {individual!r}" if individual else repr(part)


def _read_schema(columns: Columns, config: Mapping[str, Any]) -> Schema:
    names: dict[str, dict[str, None]] = defaultdict(dict)
    for (animal_class, _), parts in columns.items():
        names[animal_class] |= dict.fromkeys(parts)
    raw = config.get("skeleton")
    edges = (
        [tuple(normal_form(str(end)) for end in edge) for edge in raw if isinstance(edge, list)]
        if isinstance(raw, list)
        else []
    )
    return Schema(
        {
            animal_class: Skeleton(
                tuple(parts),
                tuple((edge[0], edge[1]) for edge in edges if len(edge) == 2 and {*edge} <= parts.keys()),
                find_pairs(tuple(parts)),
            )
            for animal_class, parts in names.items()
        }
    )


def _read_keypoints(
    row: Sequence[str], parts: Mapping[str, tuple[int, int]], name: str, number: int, labels: LabelSet
) -> dict[str, Keypoint]:
    keypoints: dict[str, Keypoint] = {}
    for part, columns in parts.items():
        cells = [row[column].strip() if column < len(row) else "" for column in columns]
        try:
            x, y = (float(cell) if cell else math.nan for cell in cells)
        except ValueError:
            found = f"{part!r} is at ({', '.join(cells)}), which are no numbers"
            labels.faults.append(Fault(name, number, "bad-row", found, "correct the row"))
            continue
        if math.isfinite(x) and math.isfinite(y):
            keypoints[part] = Keypoint(x, y)
    return keypoints
