"""What is proposed as a page: skeletons drawn on objects of the data, and every value with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from keypipe.annotations.reader import read_derived
from keypipe.diagnosis.columns import ClassObjects, Located
from keypipe.drawing.colours import keypoint_colours
from keypipe.drawing.pictures import RgbImage, draw_instances, encode_jpeg
from keypipe.drawing.text import Label, draw_caption, draw_labels
from keypipe.errors import AnnotationError, format_count
from keypipe.images.media import decode_image, read_image
from keypipe.ranking.examples import choose_examples, rate_objects
from keypipe.report.page import Figure, Gallery, KeyValues, Note, Notes, Picture, Report, Section, Table
from tasks.pages.reports import write_report
from tasks.starting.choices import ABSENT, Choice
from tasks.starting.cost import Cost
from tasks.starting.looking import Found
from tasks.workspace.documents import format_value
from tasks.workspace.places import REPORT_HTML, report_folder
from tasks.workspace.program import format_seconds, replacing

REPORT = report_folder("init")
PICTURE = "skeleton.jpg"
_SIDE_PX = 420
_FONT_PX = 15
_EXAMPLES = 3
_MOST_CLASSES = 8
_MARGIN = 0.25
_LARGE_PX = 320
_BUSY = 1.5


def write_page(root: Path, found: Found, choices: Sequence[Choice], cost: Cost | None, why_no_cost: str) -> Path:
    """Write the page and the picture of the skeletons; return where the page is.

    Args:
        root: the workspace.
        found: the folder.
        choices: every proposal beside what is there now.
        cost: what a training will cost; None where that was not measured.
        why_no_cost: why not.
    """
    drawn = list(_draw_classes(found))
    headline = (
        f"{format_count(found.n_objects, 'object')} of {format_count(len(found.schema.classes), 'class', 'classes')}"
    )
    sections: list[Section] = []
    if found.notes or found.declined:
        asked = [Note("warning", proposal.question) for proposal in found.declined]
        sections.append(Notes("To be looked at", [*(Note("info", note) for note in found.notes), *asked]))
    pictures = [Picture(encode_jpeg(row), name) for name, row in drawn]
    if pictures:
        note = "Edges join what lies near each other in nine tenths of the objects: a minimum spanning tree."
        sections.append(Gallery("Skeletons", pictures, note, min_width_px=600))
    rows = [
        [item.proposal.key, format_any(item.now), format_any(item.proposal.value), item.proposal.why]
        for item in choices
    ]
    sections.append(Table("Parameters", ["key", "now", "proposed", "why"], rows))
    sections.append(KeyValues("What a training will cost", list(tell_cost(cost, why_no_cost))))
    images = found.images.train + found.images.val
    figures = [
        Figure("Images", images),
        Figure("Objects", found.n_objects),
        Figure("Classes", len(found.schema.classes)),
    ]
    summary = {
        "headline": headline,
        "proposals": [
            {"key": item.proposal.key, "now": item.now, "proposed": item.proposal.value, "why": item.proposal.why}
            for item in choices
        ],
        "cost": msgspec.to_builtins(cost),
    }
    with replacing(root, REPORT) as report:
        report.mkdir()
        if drawn:
            (report / PICTURE).write_bytes(encode_jpeg(_pile([row for _, row in drawn])))
        write_report(report, summary, Report("A start with your data", headline, sections, figures, "init"))
    return root / REPORT / REPORT_HTML


def format_any(value: object) -> str:
    """Format a value as it stands in ``params.yaml``."""
    return ABSENT if value == ABSENT else format_value(value)


def tell_cost(cost: Cost | None, why_not: str) -> Iterator[tuple[str, str]]:
    """Say what a training will cost, a line each."""
    if cost is None:
        yield "time", f"not measured: {why_not}"
        return
    yield "a step", f"{cost.step_seconds:.2f} s, measured: {cost.batch} images of {cost.imgsz} px, forward and backward"
    yield "an epoch", f"about {format_seconds(cost.epoch_seconds)}"
    yield f"{cost.epochs} epochs", f"about {format_seconds(cost.total_seconds)} at most, an estimate from one step"
    if cost.imgsz > _LARGE_PX:
        half = cost.imgsz // 2
        yield f"at train.imgsz {half}", f"about {format_seconds(cost.total_seconds / 4)}, and objects half as large"
    if cost.load is not None and cost.load > _BUSY:
        yield "the machine", f"was busy: {cost.load:.1f} processes for each core; an idle one is faster"


def _draw_classes(found: Found) -> Iterator[tuple[str, RgbImage]]:
    """Draw examples of each class in a row, the first one with the names of its keypoints."""
    of_size = sorted(found.objects.items(), key=lambda item: -len(item[1]))
    for name, objects in of_size[:_MOST_CLASSES]:
        if not len(objects):
            continue
        rows = choose_examples(objects.rows, rate_objects(objects.rows, None), objects.file_numbers, _EXAMPLES)
        cells = [cell for row in rows if (cell := _draw_object(found, objects, row, named=row == rows[0])) is not None]
        if not cells:
            continue
        white = np.full((_SIDE_PX, _SIDE_PX, 3), 255, dtype=np.uint8)
        line = np.concatenate([*cells, *[white] * (_EXAMPLES - len(cells))], axis=1)
        draw_caption(line, f"{name}: {format_count(len(objects), 'object')}")
        yield name, line


def _draw_object(found: Found, objects: ClassObjects, row: int, *, named: bool) -> RgbImage | None:
    item = objects[row]
    pixels = _read(found, item, int(objects.file_numbers[row]))
    if pixels is None:
        return None
    instance = item.instance
    left, top, right, bottom = instance.box_xyxy
    xs = [left, right, *(point.x for point in instance.keypoints.values())]
    ys = [top, bottom, *(point.y for point in instance.keypoints.values())]
    half = (0.5 + _MARGIN) * max(max(xs) - min(xs), max(ys) - min(ys), 1.0)
    x0, y0 = (min(xs) + max(xs)) / 2 - half, (min(ys) + max(ys)) / 2 - half
    scale = _SIDE_PX / (2 * half)
    square = _cut(pixels, x0, y0, half)
    moved = {
        name: msgspec.structs.replace(point, x=(point.x - x0) * scale, y=(point.y - y0) * scale)
        for name, point in instance.keypoints.items()
    }
    box = ((left - x0) * scale, (top - y0) * scale, (right - x0) * scale, (bottom - y0) * scale)
    shown = msgspec.structs.replace(instance, box_xyxy=box, keypoints=moved)
    drawn = draw_instances(square, [shown], found.schema)
    if named:
        colours = keypoint_colours(found.schema)
        draw_labels(drawn, [Label(name, (point.x, point.y), colours[name]) for name, point in moved.items()], _FONT_PX)
    return drawn


def _cut(pixels: RgbImage, x0: float, y0: float, half: float) -> RgbImage:
    """Cut a square out of an image; what lies beyond its edge is white."""
    from PIL import Image

    view = (x0, y0, x0 + 2 * half, y0 + 2 * half)
    cut = Image.fromarray(pixels).transform(
        (_SIDE_PX, _SIDE_PX), Image.Transform.EXTENT, view, Image.Resampling.BICUBIC, fillcolor="white"
    )
    return np.array(cut)


def _read(found: Found, item: Located, number: int) -> RgbImage | None:
    file = found.read.files[number]
    try:
        if file.derived:
            content = read_derived(found.folder, file, found.options.depth, found.options.encoding)
            bgr = decode_image(content)
        else:
            bgr = read_image(found.folder / item.image.path.partition("/")[2], found.options.depth)
    except (AnnotationError, OSError):  # which doctor tells
        return None
    return np.ascontiguousarray(bgr[..., ::-1])


def _pile(rows: Sequence[RgbImage]) -> RgbImage:
    gap = np.full((6, rows[0].shape[1], 3), 255, dtype=np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1], axis=0)
