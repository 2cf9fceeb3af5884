"""How many known faults `keypipe doctor` finds, and how often it cries wolf.

    python -m benchmarks.doctor [--images 300] [--per-kind 25] [--seed 0]

Draws the demo dataset, seeds copies of it with faults of every kind, at most one an image, and compares the findings
with what was seeded. A false alarm is an error or a warning in a file without a fault; a by-product is one of another
kind than the fault that was seeded into the file. Real annotations are examined as well where they are at hand
(KEYPIPE_SHARED_DATA); in those every error or warning is listed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from keypipe.demo.scene import SCHEMA, write_demo
from keypipe.diagnosis.findings import Finding
from keypipe.keypoints.names import find_look_alikes, normal_form, spelling_key
from keypipe.keypoints.skeleton import Schema, parse_schema
from keypipe.splits.manifest import Manifest, ManifestLine, format_manifest
from tasks.commands.doctor import run
from tasks.convert import ConvertParams
from tasks.workspace.verdict import DoctorParams

DEMO = parse_schema(SCHEMA)
PARTNERS = DEMO.classes["cow"].partners()
TYPO_LETTERS = "aeiounrst"
INPUT_PX = 320


@dataclass
class Seeded:
    """A fault: the kinds that name it, its file, the shapes at fault, a size where that matters, words of the message.

    A finding of a whole folder has no file; there the words tell which fault it names.
    """

    kinds: tuple[str, ...]
    file: str
    shapes: set[int] = field(default_factory=set)
    bucket: str = ""
    words: str = ""


@dataclass
class Sample:
    """One annotated image of a copy of the demo."""

    raw: Path
    image: Path
    doc: dict[str, Any]
    rng: np.random.Generator
    splits: dict[str, str]

    @property
    def json(self) -> Path:
        """The annotation file."""
        return self.image.with_suffix(".json")

    @property
    def source(self) -> str:
        """Its name as findings give it."""
        return self.json.relative_to(self.raw).as_posix()

    @property
    def shapes(self) -> list[dict[str, Any]]:
        """Its shapes."""
        shapes: list[dict[str, Any]] = self.doc["shapes"]
        return shapes

    def save(self) -> None:
        """Write the annotation file."""
        self.json.write_text(json.dumps(self.doc, ensure_ascii=False), encoding="utf-8")

    def objects(self) -> list[tuple[int, dict[str, int]]]:
        """Return each object's box and its keypoints by name, as shape indices: the demo writes them in this order."""
        found: list[tuple[int, dict[str, int]]] = []
        for index, shape in enumerate(self.shapes):
            if shape["shape_type"] == "rectangle":
                found.append((index, {}))
            else:
                found[-1][1][shape["label"]] = index
        return found

    def draw_object(self, n_keypoints: int = 10) -> tuple[int, dict[str, int]] | None:
        """Draw an object that is not cut off by the image's edge and has many keypoints."""
        width, height = self.doc["imageWidth"], self.doc["imageHeight"]
        whole = [
            item
            for item in self.objects()
            if len(item[1]) >= n_keypoints
            and min(x for x, _ in self.shapes[item[0]]["points"]) > 3
            and min(y for _, y in self.shapes[item[0]]["points"]) > 3
            and max(x for x, _ in self.shapes[item[0]]["points"]) < width - 3
            and max(y for _, y in self.shapes[item[0]]["points"]) < height - 3
        ]
        return whole[self.rng.integers(len(whole))] if whole else None

    def box(self, index: int) -> tuple[float, float, float, float]:
        """Return the corners of a rectangle."""
        (x1, y1), (x2, y2) = self.shapes[index]["points"]
        return x1, y1, x2, y2

    def group(self) -> None:
        """Give every object a group of its own."""
        for number, (box, points) in enumerate(self.objects(), start=1):
            for index in (box, *points.values()):
                self.shapes[index]["group_id"] = number


Seeder = Callable[[Sample], Seeded | None]


def truncated(sample: Sample) -> Seeded:
    content = sample.image.read_bytes()
    sample.image.write_bytes(content[: int(len(content) * sample.rng.uniform(0.2, 0.95))])
    return Seeded(("bad-image",), sample.source)


def unreadable(sample: Sample) -> Seeded:
    sample.image.write_bytes(sample.rng.bytes(5000))
    return Seeded(("bad-image",), sample.source)


def broken_json(sample: Sample) -> Seeded:
    text = sample.json.read_text(encoding="utf-8")
    sample.json.write_text(text[: sample.rng.integers(1, len(text) - 5)], encoding="utf-8")
    return Seeded(("broken-json",), sample.source)


def no_image(sample: Sample) -> Seeded:
    sample.image.unlink()
    return Seeded(("no-image",), sample.source)


def other_size(sample: Sample) -> Seeded:
    image = Image.open(sample.image)
    factor = sample.rng.choice([0.5, 0.75, 1.5, 2.0])
    image.resize((int(image.width * factor), int(image.height * factor))).save(sample.image, quality=90)
    return Seeded(("size-mismatch",), sample.source)


def claimed_twice(sample: Sample) -> Seeded:
    name = sample.json.with_name(f"{sample.json.stem}_copy.json")
    name.write_text(json.dumps(sample.doc), encoding="utf-8")
    return Seeded(("image-claimed-twice",), name.relative_to(sample.raw).as_posix())


def png_in_jpg(sample: Sample) -> Seeded:
    Image.open(sample.image).copy().save(sample.image, format="PNG")
    return Seeded(("image-format",), sample.source)


def without_json(sample: Sample) -> Seeded:
    sample.json.unlink()
    return Seeded(("unlabelled-image",), sample.image.relative_to(sample.raw).as_posix())


def missing(sample: Sample) -> Seeded | None:
    drawn = sample.draw_object(13)
    if drawn is None:
        return None
    box, points = drawn
    del sample.shapes[points[str(sample.rng.choice(list(points)))]]
    return Seeded(("missing-keypoint",), sample.source, {box})


def repeated(sample: Sample) -> Seeded | None:
    drawn = sample.draw_object()
    if drawn is None:
        return None
    index = drawn[1][str(sample.rng.choice(list(drawn[1])))]
    again = json.loads(json.dumps(sample.shapes[index]))
    again["points"][0] = [value + sample.rng.uniform(-3, 3) for value in again["points"][0]]
    sample.shapes.append(again)
    return Seeded(("repeated-keypoint",), sample.source, {index, len(sample.shapes) - 1})


def outside_box(sample: Sample) -> Seeded | None:
    drawn = sample.draw_object()
    if drawn is None:
        return None
    sample.group()
    box, points = drawn
    x1, y1, x2, y2 = sample.box(box)
    reach = sample.rng.uniform(0.15, 0.5) * max(x2 - x1, y2 - y1)
    places = [(x1 - reach, y1), (x2 + reach, y2), (x1, y1 - reach), (x2, y2 + reach)]
    width, height = sample.doc["imageWidth"], sample.doc["imageHeight"]
    inside = [place for place in places if 0 <= place[0] < width and 0 <= place[1] < height]
    if not inside:
        return None
    index = points[str(sample.rng.choice(list(points)))]
    sample.shapes[index]["points"] = [list(inside[sample.rng.integers(len(inside))])]
    return Seeded(("keypoint-outside-box",), sample.source, {index})


def outside_image(sample: Sample) -> Seeded | None:
    drawn = sample.draw_object()
    if drawn is None:
        return None
    index = drawn[1][str(sample.rng.choice(list(drawn[1])))]
    sample.shapes[index]["points"] = [[sample.doc["imageWidth"] * 1.05, sample.shapes[index]["points"][0][1]]]
    return Seeded(("keypoint-outside-image",), sample.source, {index})


def no_keypoints(sample: Sample) -> Seeded | None:
    drawn = sample.draw_object()
    if drawn is None:
        return None
    gone = set(drawn[1].values())
    sample.doc["shapes"] = [shape for index, shape in enumerate(sample.shapes) if index not in gone]
    return Seeded(("no-keypoints",), sample.source, {drawn[0]})


def stray_point(sample: Sample) -> Seeded | None:
    boxes = [sample.box(box) for box, _ in sample.objects()]
    for _ in range(100):
        x = sample.rng.uniform(0, sample.doc["imageWidth"])
        y = sample.rng.uniform(0, sample.doc["imageHeight"])
        if not any(b[0] - 10 < x < b[2] + 10 and b[1] - 10 < y < b[3] + 10 for b in boxes):
            label = str(sample.rng.choice(DEMO.slots))
            sample.shapes.append({"label": label, "points": [[x, y]], "shape_type": "point", "group_id": None})
            return Seeded(("keypoint-without-object",), sample.source, {len(sample.shapes) - 1})
    return None


def misspelt(sample: Sample) -> Seeded | None:
    drawn = sample.draw_object()
    if drawn is None:
        return None
    index = drawn[1][str(sample.rng.choice(list(drawn[1])))]
    label = sample.shapes[index]["label"]
    place = int(sample.rng.integers(1, len(label)))
    letter = TYPO_LETTERS[sample.rng.integers(len(TYPO_LETTERS))]
    known = {spelling_key(name) for name in DEMO.slots}
    typos = (label[:place] + label[place + 1 :], label[:place] + letter + label[place:])
    typo = next((t for t in sample.rng.permutation(typos) if spelling_key(str(t)) not in known), f"{label}s")
    sample.shapes[index]["label"] = str(typo)
    return Seeded(("misspelt-label",), sample.source, {index})


def _respell(name: str, rng: np.random.Generator) -> str:
    """Write a name otherwise: letter case, full width, blanks, hyphens, a character that is not seen."""
    wide = "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in name)
    place = int(rng.integers(1, len(name)))
    ways = (
        name.upper(),
        name.title(),
        wide,
        f" {name}  ",
        name.replace("_", "-").title(),
        f"{name[:place]}\u200b{name[place:]}",
    )
    return str(ways[rng.integers(len(ways))])


def respelt(sample: Sample) -> Seeded | None:
    drawn = sample.draw_object()
    if drawn is None:
        return None
    name = str(sample.rng.choice(list(drawn[1])))
    label = _respell(name, sample.rng)
    index = drawn[1][name]
    sample.shapes[index]["label"] = label
    if normal_form(label) == name:  # it is read all the same
        return Seeded(("other-spelling",), "", words=f"{label!r}")
    return Seeded(("misspelt-label",), sample.source, {index}, "in case, hyphens or unseen characters")


def circled(sample: Sample) -> Seeded | None:
    drawn = sample.draw_object()
    if drawn is None:
        return None
    index = drawn[1][str(sample.rng.choice(list(drawn[1])))]
    x, y = sample.shapes[index]["points"][0]
    sample.shapes[index] |= {"shape_type": "circle", "points": [[x, y], [x + 3, y]]}
    return Seeded(("circle-for-keypoint",), sample.source, {index})


def outlined(sample: Sample) -> Seeded | None:
    drawn = sample.draw_object()
    if drawn is None:
        return None
    x1, y1, x2, y2 = sample.box(drawn[0])
    corners = [[x1, (y1 + y2) / 2], [(x1 + x2) / 2, y1], [x2, (y1 + y2) / 2], [(x1 + x2) / 2, y2]]
    sample.shapes[drawn[0]] |= {"shape_type": "polygon", "points": corners}
    return Seeded(("outline-without-box",), sample.source, {drawn[0]})


def wrong_type(sample: Sample) -> Seeded | None:
    drawn = sample.draw_object()
    if drawn is None:
        return None
    index = drawn[1][str(sample.rng.choice(list(drawn[1])))]
    x, y = sample.shapes[index]["points"][0]
    sample.shapes[index] |= {"shape_type": "line", "points": [[x, y], [x + 3, y]]}
    return Seeded(("wrong-shape-type",), sample.source, {index})


def tiny(sample: Sample) -> Seeded:
    x, y = sample.rng.uniform(0, sample.doc["imageWidth"] - 5), sample.rng.uniform(0, sample.doc["imageHeight"] - 5)
    size = sample.rng.uniform(1, 3, 2)
    sample.group()
    corners = [[x, y], [x + size[0], y + size[1]]]
    sample.shapes.append({"label": "cow", "points": corners, "shape_type": "rectangle", "group_id": 99})
    return Seeded(("tiny-box",), sample.source, {len(sample.shapes) - 1})


def no_area(sample: Sample) -> Seeded:
    x, y = sample.rng.uniform(0, sample.doc["imageWidth"]), sample.rng.uniform(0, sample.doc["imageHeight"])
    shape = {"label": "cow", "points": [[x, y], [x, y]], "shape_type": "rectangle", "group_id": None}
    sample.shapes.append(shape)
    return Seeded(("bad-box",), sample.source, {len(sample.shapes) - 1})


def two_positions(sample: Sample) -> Seeded | None:
    drawn = sample.draw_object()
    if drawn is None:
        return None
    index = drawn[1][str(sample.rng.choice(list(drawn[1])))]
    sample.shapes[index]["points"].append([5.0, 5.0])
    return Seeded(("bad-point",), sample.source, {index})


def several_boxes(sample: Sample) -> Seeded | None:
    """Draw a second box around the same points, in the same group: nothing tells whose they are."""
    drawn = sample.draw_object()
    if drawn is None:
        return None
    sample.group()
    again = json.loads(json.dumps(sample.shapes[drawn[0]]))
    x1, y1, x2, y2 = sample.box(drawn[0])
    again["points"] = [[x1 - 0.3 * (x2 - x1), y1], [x2, y2]]
    sample.shapes.append(again)
    return Seeded(("several-boxes-in-group",), sample.source, {drawn[0], len(sample.shapes) - 1})


def shared_group(sample: Sample) -> Seeded | None:
    """Give two objects apart from each other the same group."""
    objects = sample.objects()
    sample.group()
    for number, (box, points) in enumerate(objects):
        for other, _ in objects[:number]:
            a, b = sample.box(box), sample.box(other)
            if a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]:
                for index in (box, *points.values()):
                    sample.shapes[index]["group_id"] = sample.shapes[other]["group_id"]
                return Seeded(("shared-group",), sample.source, {box})
    return None


def dark(sample: Sample) -> Seeded:
    """Save the picture as a camera's 12 bits in a file of 16."""
    with Image.open(sample.image) as image:
        values = np.asarray(image.convert("L"), np.uint16) << 4
    sample.image.unlink()
    name = sample.image.with_suffix(".png")
    Image.fromarray(values).save(name)
    sample.doc["imagePath"] = name.name
    return Seeded(("narrow-range",), sample.source)


def in_shares(sample: Sample) -> Seeded | None:
    """Write places as shares of the picture, as scripts do."""
    if not sample.shapes:
        return None
    width, height = sample.doc["imageWidth"], sample.doc["imageHeight"]
    for shape in sample.shapes:
        shape["points"] = [[x / width, y / height] for x, y in shape["points"]]
    return Seeded(("not-in-pixels",), sample.source)


def link_to_nothing(sample: Sample) -> Seeded:
    """Leave a link whose file was moved away."""
    sample.json.unlink()
    sample.json.symlink_to("moved_away.json")
    return Seeded(("not-readable",), sample.source)


def in_unread_format(sample: Sample) -> Seeded:
    """Save the picture in a format that is not read."""
    name = sample.image.with_suffix(".gif")
    with Image.open(sample.image) as image:
        image.convert("P").save(name)
    sample.image.unlink()
    sample.doc["imagePath"] = name.name
    return Seeded(("image-not-read",), sample.source)


def in_floats(sample: Sample) -> Seeded:
    """Save the picture as numbers that nothing says the range of."""
    name = sample.image.with_suffix(".tif")
    with Image.open(sample.image) as image:
        Image.fromarray(np.asarray(image.convert("L"), np.float32) / 255).save(name)
    sample.image.unlink()
    sample.doc["imagePath"] = name.name
    return Seeded(("image-without-range",), sample.source)


def elsewhere(sample: Sample) -> Seeded:
    """Move the picture to another folder."""
    folder = sample.raw / "moved"
    folder.mkdir(exist_ok=True)
    sample.image.rename(folder / sample.image.name)
    return Seeded(("image-found-elsewhere",), sample.source)


def elsewhere_twice(sample: Sample) -> Seeded:
    """Move the picture to a folder, and another one of its name to a second folder."""
    for number in range(2):
        (sample.raw / f"moved{number}").mkdir(exist_ok=True)
    values = sample.rng.integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(values).save(sample.raw / "moved1" / sample.image.name)
    sample.image.rename(sample.raw / "moved0" / sample.image.name)
    return Seeded(("several-images",), sample.source)


def twice_annotated(sample: Sample) -> Seeded | None:
    drawn = sample.draw_object()
    if drawn is None:
        return None
    sample.group()
    again = json.loads(json.dumps([sample.shapes[index] for index in (drawn[0], *drawn[1].values())]))
    for shape in again:
        shape["group_id"] = 77
        shape["points"] = [[value + sample.rng.uniform(-0.5, 0.5) for value in point] for point in shape["points"]]
    sample.shapes.extend(again)
    return Seeded(("duplicate-object",), sample.source, {len(sample.shapes) - len(again)})


def _copy(sample: Sample, *, near: bool, across: bool) -> Seeded:
    name = sample.image.with_name(f"{sample.image.stem}_again.jpg")
    if near:
        image = Image.open(sample.image)
        factor = sample.rng.uniform(0.6, 0.95)
        small = image.resize((int(image.width * factor), int(image.height * factor)), Image.Resampling.BICUBIC)
        small.save(name, quality=int(sample.rng.integers(50, 85)))
        doc = json.loads(json.dumps(sample.doc))
        for shape in doc["shapes"]:
            shape["points"] = [
                [x * small.width / image.width, y * small.height / image.height] for x, y in shape["points"]
            ]
        doc |= {"imageWidth": small.width, "imageHeight": small.height}
    else:
        shutil.copy(sample.image, name)
        doc = sample.doc
    name.with_suffix(".json").write_text(json.dumps(doc | {"imagePath": name.name}), encoding="utf-8")
    first, second = (path.relative_to(sample.raw).as_posix() for path in (sample.image, name))
    sample.splits |= {f"raw/{first}": "train", f"raw/{second}": "val" if across else "train"}
    kind = ("near-" if near else "") + ("duplicate-across-sides" if across else "duplicate-image")
    return Seeded((kind,), Path(second).with_suffix(".json").as_posix())


def same_image(sample: Sample) -> Seeded:
    return _copy(sample, near=False, across=False)


def same_image_across(sample: Sample) -> Seeded:
    return _copy(sample, near=False, across=True)


def similar_image(sample: Sample) -> Seeded:
    return _copy(sample, near=True, across=False)


def similar_image_across(sample: Sample) -> Seeded:
    return _copy(sample, near=True, across=True)


def _transformed(sample: Sample, way: str) -> Seeded:
    """Put a copy into another split that is mirrored, turned or brightened by 40 %, with its annotations."""
    name = sample.image.with_name(f"{sample.image.stem}_{way}.jpg")
    width, height = sample.doc["imageWidth"], sample.doc["imageHeight"]
    with Image.open(sample.image) as image:
        picture = image.convert("RGB")
    doc = json.loads(json.dumps(sample.doc))
    turn: dict[str, tuple[Image.Transpose, Callable[[float, float], list[float]]]] = {
        "mirrored": (Image.Transpose.FLIP_LEFT_RIGHT, lambda x, y: [width - x, y]),
        "turned by a quarter": (Image.Transpose.ROTATE_90, lambda x, y: [y, width - x]),
        "turned by half": (Image.Transpose.ROTATE_180, lambda x, y: [width - x, height - y]),
    }
    if way in turn:
        method, move = turn[way]
        picture = picture.transpose(method)
        for shape in doc["shapes"]:
            moved = [move(x, y) for x, y in shape["points"]]
            shape["points"] = [list(map(f, zip(*moved, strict=True))) for f in (min, max)] if len(moved) == 2 else moved
            if way == "mirrored":
                shape["label"] = PARTNERS.get(shape["label"], shape["label"])
    else:
        picture = ImageEnhance.Brightness(picture).enhance(1.4)
    picture.save(name, quality=85)
    doc |= {"imageWidth": picture.width, "imageHeight": picture.height, "imagePath": name.name}
    name.with_suffix(".json").write_text(json.dumps(doc), encoding="utf-8")
    first, second = (path.relative_to(sample.raw).as_posix() for path in (sample.image, name))
    sample.splits |= {f"raw/{first}": "train", f"raw/{second}": "val"}
    kinds = ("transformed-copy-across-sides", "near-duplicate-across-sides")  # what is nearly the same either way
    return Seeded(kinds, Path(second).with_suffix(".json").as_posix(), bucket=way)


def mirrored(sample: Sample) -> Seeded:
    return _transformed(sample, "mirrored")


def turned_by_a_quarter(sample: Sample) -> Seeded:
    return _transformed(sample, "turned by a quarter")


def turned_by_half(sample: Sample) -> Seeded:
    return _transformed(sample, "turned by half")


def relit(sample: Sample) -> Seeded:
    return _transformed(sample, "relit")


def _diagonal(sample: Sample, box: int) -> float:
    x1, y1, x2, y2 = sample.box(box)
    return math.hypot(x2 - x1, y2 - y1)


def _bucket(share: float, edges: tuple[float, ...]) -> str:
    low = max(edge for edge in (0.0, *edges) if share >= edge)
    high = min((edge for edge in edges if share < edge), default=None)
    return f"{low:.2f}-{high:.2f}" if high else f">{low:.2f}"


def displaced(sample: Sample) -> Seeded | None:
    """Move a keypoint within the box."""
    drawn = sample.draw_object()
    if drawn is None:
        return None
    box, points = drawn
    index = points[str(sample.rng.choice(list(points)))]
    x1, y1, x2, y2 = sample.box(box)
    x, y = sample.shapes[index]["points"][0]
    sample.group()
    for _ in range(50):
        share, angle = sample.rng.uniform(0.1, 0.5), sample.rng.uniform(0, 2 * math.pi)
        reach = share * _diagonal(sample, box)
        place = (x + reach * math.cos(angle), y + reach * math.sin(angle))
        if x1 < place[0] < x2 and y1 < place[1] < y2:
            sample.shapes[index]["points"] = [list(place)]
            return Seeded(("keypoint-outlier",), sample.source, {index}, _bucket(share, (0.2,)))
    return None


def _exchange(sample: Sample, first: int, second: int) -> float:
    a, b = sample.shapes[first], sample.shapes[second]
    a["label"], b["label"] = b["label"], a["label"]
    return math.dist(a["points"][0], b["points"][0])


def swapped(sample: Sample) -> Seeded | None:
    drawn = sample.draw_object()
    if drawn is None:
        return None
    box, points = drawn
    pairs = [(a, b) for a, b in PARTNERS.items() if a < b and a in points and b in points]
    a, b = pairs[sample.rng.integers(len(pairs))]
    distance = _exchange(sample, points[a], points[b]) / _diagonal(sample, box)
    return Seeded(("left-right-swap",), sample.source, {points[a], points[b]}, _bucket(distance, (0.05,)))


def all_swapped(sample: Sample) -> Seeded | None:
    drawn = sample.draw_object(13)
    if drawn is None:
        return None
    for a, b in PARTNERS.items():
        if a < b:
            _exchange(sample, drawn[1][a], drawn[1][b])
    return Seeded(("left-right-swap",), sample.source, set(drawn[1].values()), "all pairs")


def exchanged(sample: Sample) -> Seeded | None:
    drawn = sample.draw_object()
    if drawn is None:
        return None
    box, points = drawn
    names = [str(name) for name in sample.rng.permutation(list(points))]
    a, b = next((a, b) for a in names for b in names if a != b and PARTNERS.get(a) != b)
    distance = _exchange(sample, points[a], points[b]) / _diagonal(sample, box)
    return Seeded(("exchanged-keypoints",), sample.source, {points[a], points[b]}, _bucket(distance, (0.1,)))


ROUNDS: list[list[Seeder]] = [
    [truncated, unreadable, broken_json, no_image, other_size, claimed_twice, png_in_jpg, without_json, stray_point],
    [missing, repeated, outside_image, no_keypoints, misspelt, wrong_type, tiny, no_area, two_positions],
    [several_boxes, twice_annotated, same_image, same_image_across, similar_image, similar_image_across, outside_box],
    [displaced, displaced, exchanged],
    [swapped, swapped, all_swapped],
    [respelt, circled, outlined, shared_group, dark],
    [mirrored, turned_by_a_quarter, turned_by_half, relit],
    [in_shares, link_to_nothing, in_unread_format, in_floats, elsewhere, elsewhere_twice],
]
"""Faults that are seeded into one copy together; each into other images."""


def seed_faults(
    clean: Path, raw: Path, seeders: list[Seeder], per_kind: int, seed: int
) -> tuple[list[Seeded], dict[str, str]]:
    """Copy the demo and seed it; return the faults and the splits of the images."""
    shutil.copytree(clean, raw)
    rng = np.random.default_rng(seed)
    images = [sorted(raw.rglob("*.jpg"))[index] for index in rng.permutation(len(list(raw.rglob("*.jpg"))))]
    splits = {f"raw/{image.relative_to(raw).as_posix()}": "train" for image in images}
    faults: list[Seeded] = []
    left = Counter(dict.fromkeys(range(len(seeders)), per_kind))
    for image in images:
        doc = json.loads(image.with_suffix(".json").read_text(encoding="utf-8"))
        if not doc["shapes"]:
            continue
        for number in rng.permutation([number for number, count in left.items() if count]):
            sample = Sample(raw, image, json.loads(json.dumps(doc)), rng, splits)
            fault = seeders[number](sample)
            if fault:
                if sample.doc != doc:
                    sample.save()
                faults.append(fault)
                left[int(number)] -= 1
                break
    return faults, splits


@dataclass
class Tally:
    """What became of the faults of one kind."""

    seeded: int = 0
    found: int = 0
    right_shape: int = 0
    false_alarms: int = 0
    by_products: int = 0


def examine(root: Path, raw: Path, schema: Schema, splits: dict[str, str] | None) -> list[Finding]:
    """Run the doctor on a folder, with a manifest where splits are given."""
    if splits is not None:
        manifest = root / "data/dataset/manifest.csv"
        manifest.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            ManifestLine(image, str(number), split) for number, (image, split) in enumerate(sorted(splits.items()))
        ]
        manifest.write_text(format_manifest(Manifest(tuple(lines))), encoding="utf-8")
    folder = None if raw == root / "data/raw" else raw
    return run(DoctorParams(), ConvertParams(), schema, root, folder, input_px=INPUT_PX).findings


def compare(faults: list[Seeded], findings: list[Finding], tallies: dict[tuple[str, str], Tally]) -> None:
    """Count what was found of what was seeded, and what was found besides."""
    of_file: dict[str, list[Finding]] = defaultdict(list)
    for found in findings:
        of_file[found.file].append(found)
    fault_of = {fault.file: fault for fault in faults}
    for fault in faults:
        tally = tallies[fault.kinds[0], fault.bucket]
        tally.seeded += 1
        same = [found for found in of_file[fault.file] if found.kind in fault.kinds and fault.words in found.message]
        tally.found += bool(same)
        tally.right_shape += any(found.shape in fault.shapes for found in same) if fault.shapes else bool(same)
    for found in findings:
        fault = fault_of.get(found.file)
        if fault and found.kind in fault.kinds:
            continue
        if fault is None and found.severity != "info":
            tallies[found.kind, ""].false_alarms += 1
        elif fault:
            tallies[found.kind, ""].by_products += 1


def rows(tallies: dict[tuple[str, str], Tally]) -> Iterator[list[str]]:
    for (kind, bucket), tally in sorted(tallies.items()):
        recall = f"{tally.found / tally.seeded:.2f}" if tally.seeded else "-"
        counted = tally.found + tally.false_alarms
        precision = f"{tally.found / counted:.2f}" if tally.seeded and counted else "-"
        name = f"{kind} {bucket}".strip()
        numbers = [tally.seeded, tally.found, tally.right_shape, tally.false_alarms, tally.by_products]
        yield [name, *map(str, numbers), recall, precision]


def print_table(head: list[str], body: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in [head, *body]) for column in range(len(head))]
    for row in (head, ["-" * width for width in widths], *body):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


def measure(n_images: int, per_kind: int, seed: int) -> dict[tuple[str, str], Tally]:
    """Seed and examine all rounds."""
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    with tempfile.TemporaryDirectory() as scratch:
        clean = Path(scratch) / "clean"
        write_demo(clean, n_images, seed)
        alarms = [found for found in examine(Path(scratch) / "none", clean, DEMO, None) if found.severity != "info"]
        print(f"clean demo, {n_images} images: {len(alarms)} errors and warnings")
        for number, seeders in enumerate(ROUNDS):
            root = Path(scratch) / f"round{number}"
            faults, splits = seed_faults(clean, root / "data/raw", seeders, per_kind, seed + number)
            compare(faults, examine(root, root / "data/raw", DEMO, splits), tallies)
    count_look_alikes(per_kind, seed, tallies["look-alike-names", ""])
    return tallies


def count_look_alikes(n_names: int, seed: int, tally: Tally) -> None:
    """Put another spelling of one of its keypoints into the schema, again and again; its own names are no alarm."""
    rng = np.random.default_rng(seed)
    for _ in range(n_names):
        name = str(rng.choice(DEMO.slots))
        alike = {name, normal_form(_respell(name, rng))}  # as a schema has it
        if len(alike) == 1:
            continue
        tally.seeded += 1
        found = [set(names) for names in find_look_alikes([*DEMO.slots, *(alike - {name})])]
        tally.found += found == [alike]
        tally.right_shape += found == [alike]


def examine_real() -> None:
    """Print what is found in real annotations, where they are at hand."""
    here = Path(__file__).parents[2] / "shared" / "data"
    data = Path(os.environ.get("KEYPIPE_SHARED_DATA", here))
    mosfet = {"keypoints": ["Drain", "Source", "Gate"]}
    schemas = {
        "setsquare": {"sjb_rect": {"keypoints": ["angle_30", "angle_60", "angle_90"]}},
        "circuit_mos": {"nmos": mosfet, "pmos": mosfet},
    }
    for name, classes in schemas.items():
        if not (data / name).exists():
            print(f"{name}: not at hand")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            found = examine(Path(scratch), data / name / "labelme", parse_schema({"classes": classes}), None)
        counts = Counter(f"{item.severity} {item.kind}" for item in found)
        print(f"{name}: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--per-kind", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tallies = measure(arguments.images, arguments.per_kind, arguments.seed)
    head = ["kind", "seeded", "found", "right shape", "false alarms", "by-products", "recall", "precision"]
    print_table(head, list(rows(tallies)))
    examine_real()


if __name__ == "__main__":
    main()
