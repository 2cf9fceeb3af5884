"""Rows of YOLO-pose label files: numbers, and how many keypoints of how many values they hold."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from keypipe.errors import ConfigError, format_count
from keypipe.exchange.labels import LabelSet, LineFault

FIX = "correct the line, or delete it"
MAX_IDS = 10_000
"""Class ids and numbers of keypoints from here on are no such thing."""

_EDGE = 0.01  # share of the image by which rounding and clicks beyond the edge leave it
_N_SHOWN = 3  # widths of rows that a message spells out

Shape = tuple[int, int]
"""Number of keypoints, and of values for each: 2 (x, y) or 3 (x, y, visibility)."""


class Row(msgspec.Struct, frozen=True):
    """One line of a label file.

    Attributes:
        file: name of the label file.
        number: zero-based position of the line.
        values: class id, centre x, centre y, width, height as shares of the image, then the keypoints.
    """

    file: str
    number: int
    values: tuple[float, ...]

    @property
    def box(self) -> tuple[float, ...]:
        """Centre x, centre y, width, height."""
        return self.values[1:5]

    @property
    def keypoints(self) -> tuple[float, ...]:
        """What stands behind the box."""
        return self.values[5:]


def parse_rows(text: str, file: str, labels: LabelSet) -> list[Row]:
    """Parse the lines of a label file; what is no row of finite numbers becomes a fault."""
    rows: list[Row] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines()):
        if not line.strip(" \t,;"):
            continue
        fields, with_decimal_commas = _split(line)
        if with_decimal_commas:
            labels.repairs["lines with decimal commas"] += 1
        elif "  " in line.strip() or not {*line}.isdisjoint("\t,;"):
            labels.repairs["lines with several blanks, tabs, commas or semicolons between values"] += 1
        try:
            values = tuple(map(float, fields))
        except ValueError:
            odd_field = next(field for field in fields if not _is_number(field))
            labels.faults.append(LineFault(file, number, "bad-row", f"{odd_field[:40]!r} is no number", FIX))
            continue
        if not all(map(math.isfinite, values)):
            odd = next(value for value in values if not math.isfinite(value))
            labels.faults.append(LineFault(file, number, "bad-row", f"{odd} where a number belongs", FIX))
        else:
            rows.append(Row(file, number, values))
    return rows


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def holds_rows(text: str) -> bool:
    """Tell whether a text file holds label rows, and is no list of files or classes and no note."""
    return any(_is_row(line) for line in text.splitlines())


_DECIMAL_COMMA = re.compile(r"(?<![^\s;])[-+]?\d*,\d+(?:[eE][-+]?\d+)?(?![^\s;])")


def _split(line: str) -> tuple[list[str], bool]:
    """Return the values of a line, and whether they had decimal commas, as in ``0 0,5 0,25``.

    That is so where no value has a point, and a comma stands within four values or more, and nowhere else.
    """
    fields = re.split(r"[\s;]+", line.strip("\ufeff \t;"))
    with_comma = [field for field in fields if "," in field]
    if len(with_comma) >= 4 and "." not in line and all(map(_DECIMAL_COMMA.fullmatch, with_comma)):
        return [field.replace(",", ".") for field in fields], True
    return re.sub("[,;]", " ", line).split(), False


def _is_row(line: str) -> bool:
    try:
        return len([float(field) for field in _split(line)[0]]) >= 5
    except ValueError:
        return False


# --------------------------------------------------------------------------------------------- kpt_shape


def read_shape(data: Mapping[str, Any], rows: Sequence[Row], given: Shape | None, repairs: Counter[str]) -> Shape:
    """Return the number of keypoints and of values for each.

    Args:
        data: of ``data.yaml``.
        rows: of all label files.
        given: by the user; goes before ``data.yaml``, which goes before the number of columns.
        repairs: gets a line if it is told from the columns.

    Raises:
        ConfigError: ``kpt_shape`` is none, no row has keypoints, or no row fits it.
    """
    shape, said_by = given or _parse_shape(data.get("kpt_shape")), "--kpt-shape" if given else "data.yaml"
    if shape is None:
        shape, said_by = _tell_shape(rows), "the columns"
        repairs[f"kpt_shape {list(shape)} told from the number of columns"] += 1
    n_values = shape[0] * shape[1]
    if rows and all(len(row.keypoints) != n_values for row in rows) and not _are_broken(rows, n_values):
        raise ConfigError(_describe_misfit(rows, shape, said_by))
    return shape


def _parse_shape(value: Any) -> Shape | None:
    if value is None:
        return None
    numbers = [to_int(item) for item in value] if isinstance(value, list | tuple) else []
    if len(numbers) != 2 or numbers[1] not in {2, 3} or not 1 <= (numbers[0] or 0) < MAX_IDS:
        raise ConfigError(f"data.yaml: kpt_shape must be [number of keypoints, 2 or 3], and is {str(value)[:80]}")
    return numbers[0] or 0, numbers[1] or 0


def to_int(value: Any) -> int | None:
    """Return a whole number that YAML has as number or text; None if it is something else."""
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _tell_shape(rows: Sequence[Row]) -> Shape:
    widths = Counter(len(row.keypoints) for row in rows if row.keypoints)
    if not widths:
        raise ConfigError("no label line has keypoints; these are the labels of a detector, not of a pose model")
    width = widths.most_common(1)[0][0]
    alike = [row for row in rows if len(row.keypoints) == width]
    shapes = find_shapes(alike)
    if not shapes:
        raise ConfigError(
            f"most rows have {width} values behind class and box ({_describe_fit(alike)});"
            " give --kpt-shape NUMBER,2 or NUMBER,3, or write kpt_shape into data.yaml"
        )
    return shapes[0]


def find_shapes(rows: Sequence[Row]) -> list[Shape]:
    """Return what ``kpt_shape`` the keypoints of rows could have, the likelier first.

    Args:
        rows: with equal numbers of values.
    """
    width = len(rows[0].keypoints)
    states = {value for row in rows for value in row.keypoints[2::3]}
    shapes: list[Shape] = []
    if width and width % 3 == 0 and (width % 2 or states <= {0, 1, 2, 3}):
        shapes.append((width // 3, 3))
    fits_two = width and width % 2 == 0 and not _has_score(rows)
    if fits_two and (not shapes or all(are_shares(row.keypoints) for row in rows)):
        shapes.append((width // 2, 2))
    return shapes


def _has_score(rows: Sequence[Row]) -> bool:
    """Tell whether rows end with the score that ``yolo predict save_conf`` appends to keypoints with a third value."""
    return (
        len(rows[0].keypoints) % 3 == 1
        and all(0 < row.keypoints[-1] <= 1 for row in rows)
        and {value for row in rows for value in row.keypoints[2:-1:3]} <= {0, 1, 2, 3}
    )


def _are_broken(rows: Sequence[Row], n_values: int) -> bool:
    return any(is_broken([row for row in rows if row.file == file], n_values) for file in {rows[0].file, rows[-1].file})


def is_broken(rows: Sequence[Row], n_values: int) -> bool:
    """Tell whether the rows of a file are whole rows that were broken over several lines."""
    total = sum(len(row.values) for row in rows)
    too_short = all(len(row.values) < 5 + n_values for row in rows)
    return too_short and any(len(row.values) < 5 for row in rows) and total > 0 and total % (5 + n_values) == 0


def _describe_misfit(rows: Sequence[Row], shape: Shape, said_by: str) -> str:
    n_values = shape[0] * shape[1]
    by_width = Counter(len(row.keypoints) for row in rows)
    told: list[str] = []
    for width, count in by_width.most_common(_N_SHOWN):
        alike = [row for row in rows if len(row.keypoints) == width]
        place = f"{alike[0].file} line {alike[0].number + 1}"
        told.append(
            f"{format_count(count, 'row')} with {max(width, 0)}, such as {place} ({_describe_fit(alike, shape)})"
        )
    return (
        f"{said_by} says kpt_shape {list(shape)}, which is {n_values} values behind class and box, and no row has so"
        f" many: {'; '.join(told)}{_suggest(rows, by_width.most_common(1)[0][0], shape)}"
    )


def _suggest(rows: Sequence[Row], width: int, shape: Shape) -> str:
    alike = [row for row in rows if len(row.keypoints) == width]
    if width <= 0 or width == shape[0] * shape[1] + 1 or not (shapes := find_shapes(alike)):
        return ""
    return f"; if the rows are right, correct data.yaml, or give --kpt-shape {shapes[0][0]},{shapes[0][1]}"


def _describe_fit(rows: Sequence[Row], wanted: Shape | None = None) -> str:
    width = len(rows[0].keypoints)
    if len(rows[0].values) < 5:
        return "no box: not a row of YOLO labels"
    if not width:
        return "the labels of a detector, not of a pose model"
    if _has_score(rows) or (wanted and width == wanted[0] * wanted[1] + 1):
        shape = wanted or (width // 3, 3)
        return f"kpt_shape {list(shape)} and a score at the end, as `yolo predict` saves: cut the score off"
    fits = " or ".join(f"kpt_shape {list(shape)}" for shape in find_shapes(rows))
    return f"fits {fits}" if fits else "which fits no kpt_shape"


# ------------------------------------------------------------------------------------------ shares, states


def check_shares(rows: Sequence[Row], shape: Shape, sizes_wh: Mapping[str, tuple[int, int]]) -> None:
    """Refuse rows that are in pixels, or predictions, as a whole.

    Args:
        rows: with as many values as ``kpt_shape`` says.
        shape: ``kpt_shape``.
        sizes_wh: label file -> the image's width and height in pixels, for the message.

    Raises:
        ConfigError: half of the rows, or more.
    """
    step = shape[1]

    def has_pixels(row: Row) -> bool:
        return not (_are_near(row.keypoints[::step]) and _are_near(row.keypoints[1::step]))

    def has_scores(row: Row) -> bool:
        return step == 3 and any(0 < value < 1 for value in row.keypoints[2::3])

    what: dict[str, Callable[[Row], bool]] = {
        "boxes in pixels": lambda row: not _are_near(row.box),
        "keypoints in pixels": has_pixels,
        "scores instead of visibilities": has_scores,
    }
    for name, is_so in what.items():
        found = [row for row in rows if is_so(row)]
        if found and 2 * len(found) >= len(rows):
            first = found[0]
            values = " ".join(f"{value:g}" for value in first.values[:8])
            size = sizes_wh.get(first.file)
            image = f", whose image has {size[0]}x{size[1]} px" if size and "pixels" in name else ""
            raise ConfigError(
                f"{len(found)} of {format_count(len(rows), 'row')} have {name}, such as {first.file} line"
                f" {first.number + 1}{image} ({values} ...); {_REMEDIES[name]}"
            )


_REMEDIES = {
    "boxes in pixels": "YOLO's rows are shares of the image: divide by its width and height",
    "keypoints in pixels": "YOLO's rows are shares of the image: divide by its width and height",
    "scores instead of visibilities": "these are predictions: write 2 for what is visible, 1 for what is occluded and"
    " 0 for what is not labelled",
}


def _are_near(values: Sequence[float]) -> bool:
    """Tell whether values are shares of an image, of places beyond its edge as well; pixels of a whole file are not."""
    return all(-0.5 <= value <= 1.5 for value in values)


def are_shares(values: Sequence[float]) -> bool:
    """Tell whether values are shares of an image, give or take what rounding does."""
    return all(-_EDGE <= value <= 1 + _EDGE for value in values)
