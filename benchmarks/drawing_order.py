"""How many keypoints go to the wrong object where boxes overlap and nobody gave groups, by the order of drawing.

    python -m benchmarks.drawing_order [--images 240] [--seed 0]

The demo, real photographs of set squares where they are at hand (KEYPIPE_SHARED_DATA; their boxes hardly overlap), and
crowds of eight of the demo's animals, a tenth of whose keypoints are missing. Groups are removed and boxes are made
larger, by an eighth or by half of their sides, so that they overlap less or more; the crowds stand closer. Each is put
into the order in which people draw: a box and then its points; all boxes, then the points object by object; the points
and then their box; each file in one of these; and in no order at all. Read as a folder, and every file as the only one.

Printed are the points that lie in several boxes, and how many of all points get the wrong object

- by list order alone: the box that stands last before the point;
- by keypipe, and how many points it asks about instead (each stops its image).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.doctor import DEMO
from keypipe.annotations.folder import read_folder
from keypipe.annotations.labelme import LabelmeOptions, LabelmeShape, parse_labelme, to_document
from keypipe.annotations.readings import Ingested
from keypipe.annotations.shapes import ParsedShapes, parse_shapes
from keypipe.demo.scene import write_demo
from keypipe.keypoints.boxes import Box
from keypipe.keypoints.skeleton import Schema, parse_schema

SET_SQUARES = parse_schema({"classes": {"sjb_rect": {"keypoints": ["angle_30", "angle_60", "angle_90"]}}})
N_ANIMALS = 8
MISSING = 0.1  # of a crowd's keypoints
STRENGTHS = {"weak": 0.125, "strong": 0.5}  # share of a box's sides by which it grows


@dataclass(frozen=True)
class Object:
    """A box and its keypoints in the order in which they were drawn, pixels."""

    class_name: str
    box_xyxy: Box
    keypoints: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Picture:
    """The size of an image and what is on it."""

    size_wh: tuple[int, int]
    objects: Sequence[Object]


@dataclass(frozen=True)
class Drawn:
    """The shapes of a picture in some order; ``owner`` has for each point's index that of its box."""

    size_wh: tuple[int, int]
    shapes: list[LabelmeShape]
    owner: dict[int, int]


def read_pictures(raw: Path, schema: Schema) -> list[Picture]:
    """Read whose keypoints are whose, where groups or containment leave nothing in doubt."""
    pictures = []
    for file in read_folder(raw, schema, LabelmeOptions()).files:
        if file.image is None or file.by_place or file.by_list_order:
            continue
        objects = []
        for instance, at in zip(file.image.instances, file.shapes, strict=True):
            names = sorted(at.keypoints, key=at.keypoints.__getitem__)
            places = {name: (instance.keypoints[name].x, instance.keypoints[name].y) for name in names}
            objects.append(Object(instance.class_name, instance.box_xyxy, places))
        pictures.append(Picture(file.image.size_wh, objects))
    return pictures


def draw_crowd(animals: Sequence[Object], density: float, rng: np.random.Generator) -> Picture:
    """Put animals at random places of a square picture whose area is that of their boxes, divided by the density."""
    chosen = [animals[number] for number in rng.choice(len(animals), N_ANIMALS, replace=False)]
    area = sum((item.box_xyxy[2] - item.box_xyxy[0]) * (item.box_xyxy[3] - item.box_xyxy[1]) for item in chosen)
    side = round((area / density) ** 0.5)
    objects = []
    for item in chosen:
        left, top, right, bottom = item.box_xyxy
        dx = rng.uniform(0, max(side - (right - left), 0)) - left
        dy = rng.uniform(0, max(side - (bottom - top), 0)) - top
        box = (left + dx, top + dy, min(right + dx, side), min(bottom + dy, side))
        kept = {name: at for name, at in item.keypoints.items() if rng.random() >= MISSING}
        places = {name: (min(x + dx, side), min(y + dy, side)) for name, (x, y) in kept.items()}
        objects.append(Object(item.class_name, box, places))
    return Picture((side, side), objects)


def widen(picture: Picture, share: float) -> Picture:
    """Make every box larger by a share of its sides; it ends at the image's edge."""
    width, height = picture.size_wh
    objects = []
    for item in picture.objects:
        left, top, right, bottom = item.box_xyxy
        dx, dy = (right - left) * share / 2, (bottom - top) * share / 2
        box = (max(left - dx, 0.0), max(top - dy, 0.0), min(right + dx, width), min(bottom + dy, height))
        objects.append(Object(item.class_name, box, item.keypoints))
    return Picture(picture.size_wh, objects)


Order = Callable[[Sequence[Object], np.random.Generator], list[tuple[int, str | None]]]
"""Objects to their shapes as they follow each other: number of the object, and keypoint, None for its box."""


def box_then_points(objects: Sequence[Object], _rng: np.random.Generator) -> list[tuple[int, str | None]]:
    return [(number, name) for number, item in enumerate(objects) for name in (None, *item.keypoints)]


def boxes_then_points(objects: Sequence[Object], _rng: np.random.Generator) -> list[tuple[int, str | None]]:
    boxes: list[tuple[int, str | None]] = [(number, None) for number in range(len(objects))]
    return boxes + [(number, name) for number, item in enumerate(objects) for name in item.keypoints]


def points_then_box(objects: Sequence[Object], _rng: np.random.Generator) -> list[tuple[int, str | None]]:
    return [(number, name) for number, item in enumerate(objects) for name in (*item.keypoints, None)]


def mixed(objects: Sequence[Object], rng: np.random.Generator) -> list[tuple[int, str | None]]:
    return (box_then_points, boxes_then_points, points_then_box)[int(rng.integers(3))](objects, rng)


def no_order(objects: Sequence[Object], rng: np.random.Generator) -> list[tuple[int, str | None]]:
    shapes = box_then_points(objects, rng)
    return [shapes[number] for number in rng.permutation(len(shapes))]


ORDERS: dict[str, Order] = {
    "box, then its points": box_then_points,
    "boxes, then points": boxes_then_points,
    "points, then their box": points_then_box,
    "mixed": mixed,
    "no order": no_order,
}


def draw(picture: Picture, order: Order, rng: np.random.Generator) -> Drawn:
    """Lay out the shapes of a picture, without groups."""
    shapes, numbers = [], []
    for number, name in order(picture.objects, rng):
        item = picture.objects[number]
        left, top, right, bottom = item.box_xyxy
        points = [(left, top), (right, bottom)] if name is None else [item.keypoints[name]]
        shapes.append(LabelmeShape(name or item.class_name, points, "point" if name else "rectangle", None, {}))
        numbers.append((number, name))
    box_of = {number: index for index, (number, name) in enumerate(numbers) if name is None}
    owner = {index: box_of[number] for index, (number, name) in enumerate(numbers) if name is not None}
    return Drawn(picture.size_wh, shapes, owner)


def count_contested(drawn: Drawn) -> int:
    """Count the points that lie in several boxes."""
    boxes = [shape.points for shape in drawn.shapes if shape.shape_type == "rectangle"]
    around = [
        sum(left <= x <= right and top <= y <= bottom for (left, top), (right, bottom) in boxes)
        for x, y in (drawn.shapes[point].points[0] for point in drawn.owner)
    ]
    return sum(count > 1 for count in around)


def count_wrong_by_order_alone(drawn: Drawn) -> int:
    """Count the points that are not those of the box that stands last before them."""
    boxes = set(drawn.owner.values())
    return sum(max((box for box in boxes if box < point), default=-1) != box for point, box in drawn.owner.items())


def count_wrong(drawn: Drawn, found: Ingested | ParsedShapes) -> Counter[str]:
    """Count points with the wrong object, and those that a fault asks about."""
    counts = Counter(asked=len(found.faults))
    if not found.faults:
        counts["wrong"] = sum(
            drawn.owner[point] != item.box for item in found.shapes for point in item.keypoints.values()
        )
    return counts


def read_as_folder(drawn: Sequence[Drawn], schema: Schema) -> Counter[str]:
    """Write and read a folder; nothing but the sizes of its images matters."""
    with tempfile.TemporaryDirectory() as scratch:
        for number, item in enumerate(drawn):
            name = f"{number:04d}.png"
            Image.new("L", item.size_wh).save(Path(scratch, name))
            document = to_document(item.shapes, name, item.size_wh)
            Path(scratch, name).with_suffix(".json").write_text(json.dumps(document), encoding="utf-8")
        files = read_folder(Path(scratch), schema, LabelmeOptions(), processes=1).files
        return sum_counts(count_wrong(item, file) for item, file in zip(drawn, files, strict=True))


def read_alone(drawn: Sequence[Drawn], schema: Schema) -> Counter[str]:
    """Read every file as the only one."""
    counts = []
    for item in drawn:
        file = parse_labelme(json.dumps(to_document(item.shapes, "a.png", item.size_wh)).encode())
        counts.append(count_wrong(item, parse_shapes(file, item.size_wh, schema, LabelmeOptions(), "a.json")))
    return sum_counts(counts)


def sum_counts(counts: Iterable[Counter[str]]) -> Counter[str]:
    """Add up."""
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return total


def datasets(n_images: int, seed: int) -> dict[str, tuple[Schema, list[Picture]]]:
    """Return what is measured, by name."""
    with tempfile.TemporaryDirectory() as scratch:
        write_demo(Path(scratch) / "raw", n_images, seed)
        demo = read_pictures(Path(scratch) / "raw", DEMO)
    data = Path(os.environ.get("KEYPIPE_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data")) / "setsquare"
    squares = read_pictures(data / "labelme", SET_SQUARES) if data.exists() else []
    if not squares:
        print(f"{data} is not there: no set squares are measured (KEYPIPE_SHARED_DATA says where they are)")
    animals = [item for picture in demo for item in picture.objects if len(item.keypoints) > 1]
    found: dict[str, tuple[Schema, list[Picture]]] = {}
    for strength, share in STRENGTHS.items():
        found[f"demo, {strength}"] = DEMO, [widen(picture, share) for picture in demo]
        if squares:
            found[f"set squares, {strength}"] = SET_SQUARES, [widen(picture, share) for picture in squares]
        rng = np.random.default_rng(seed)
        crowds = [draw_crowd(animals, 1 + 4 * share, rng) for _ in range(n_images // 4)]
        found[f"crowds, {strength}"] = DEMO, crowds
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=240, help="of the demo; a quarter as many crowds")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print("| overlap | drawn as | points | in several boxes | order alone | folder | alone |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for name, (schema, pictures) in datasets(arguments.images, arguments.seed).items():
        for order_name, order in ORDERS.items():
            rng = np.random.default_rng(arguments.seed)
            drawn = [draw(picture, order, rng) for picture in pictures]
            contested = sum(map(count_contested, drawn))
            by_order = sum(map(count_wrong_by_order_alone, drawn))
            n_points = sum(len(item.owner) for item in drawn)
            cells = [
                f"{found['wrong']}, {found['asked']} asked" if found["asked"] else str(found["wrong"])
                for found in (read_as_folder(drawn, schema), read_alone(drawn, schema))
            ]
            print(
                f"| {name} | {order_name} | {n_points} | {contested} | {by_order} | {' | '.join(cells)} |", flush=True
            )


if __name__ == "__main__":
    main()
