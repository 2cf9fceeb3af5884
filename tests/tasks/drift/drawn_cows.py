"""A camera whose pictures have grown dark: drawn cows, and what a model might say of them, for a page with pictures.

The model is none: its answers are the annotations with errors, more often large ones in the dark, where it is also less
sure. So pictures, markings and figures of the page belong together, and nothing has to be trained.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
from PIL import Image

from keypipe.demo.scene import SCHEMA as DEMO
from keypipe.demo.scene import write_demo
from keypipe.drift.closeness import Truth
from keypipe.drift.observation import look_at_pixels, to_objects
from keypipe.drift.rows import Row
from keypipe.drift.segments import PICTURES, Window
from keypipe.inference.model_info import ModelInfo
from keypipe.inference.predictor import Thresholds
from keypipe.keypoints.predictions import PredictedKeypoint, Prediction
from keypipe.keypoints.skeleton import parse_schema
from tasks.drift.validation_side import ValidationSide

SCHEMA = parse_schema({"classes": DEMO["classes"]})
SHA = "ab" * 32
WIDTH, HEIGHT = 320, 240
DAY_SHARE, NIGHT_SHARE = 0.15, 0.85
"""Of the objects: how many are hard for the model."""


def draw_sides(folder: Path, n_before: int, n_now: int) -> tuple[ValidationSide, Window]:
    """Draw both sides; the window's pictures lie in the folder ``log``."""
    images = write_demo(folder / "drawn", n_before + n_now, seed=11, size_wh=(WIDTH, HEIGHT))
    rng = np.random.default_rng(4)
    rows, truths = zip(*(_answer(image, rng, DAY_SHARE) for image in images[:n_before]), strict=True)
    units = [f"image {row.image}" for row in rows]
    side = ValidationSide(ModelInfo(SCHEMA, (HEIGHT, WIDTH)), list(rows), units, list(truths), images[:n_before], {})
    now = time.time()
    (folder / "log" / PICTURES).mkdir(parents=True)
    window: list[Row] = []
    for index, image in enumerate(images[n_before:]):
        dark = folder / "log" / PICTURES / f"{index}.jpg"
        Image.open(image).point(lambda value: round(0.35 * value)).save(dark, quality=90)
        labels = image.with_suffix(".json")
        row, _ = _answer(dark, rng, NIGHT_SHARE, labels, at=now - 60 * index, picture=dark.name)
        window.append(row)
    return side, Window(window, n_now, {}, [])


def _answer(
    image: Path,
    rng: np.random.Generator,
    hard_share: float,
    labels: Path | None = None,
    at: float = 0.0,
    picture: str = "",
) -> tuple[Row, Truth]:
    """Return what the model says of an image, and what is true."""
    truth = _read(labels or image.with_suffix(".json"))
    found: list[Prediction] = []
    views: list[list[float]] = []
    for class_name, box, points in truth:
        hard = rng.random() < hard_share
        score, error_px = (0.62, 13.0) if hard else (0.84, 2.0)
        keypoints: list[PredictedKeypoint] = []
        moves: list[float] = []
        for name in SCHEMA.classes[class_name].keypoints:
            x, y = points.get(name, (box[0], box[1]))
            off = rng.normal(0, error_px, 2)
            confidence = float(np.clip(rng.normal(score, 0.12), 0.5, 1)) if name in points else 0.1
            keypoints.append(PredictedKeypoint(name, x + float(off[0]), y + float(off[1]), confidence))
            moves.append(float(np.hypot(*off)) / float(np.hypot(box[2] - box[0], box[3] - box[1])))
        found.append(Prediction(class_name, float(np.clip(rng.normal(score, 0.1), 0.3, 1)), box, keypoints))
        views.append(moves)
    with Image.open(image) as opened:
        pixels = look_at_pixels(np.asarray(opened.convert("RGB"))[:, :, ::-1].copy())
    row = Row(
        at=at,
        source="predict" if picture else "validation",
        model="models:/cows/3",
        sha256=SHA,
        group="",
        image=f"barn/{image.name}",
        size_wh=(WIDTH, HEIGHT),
        thresholds=Thresholds(),
        pixels=pixels,
        views=True,
        objects=to_objects(found, (WIDTH, HEIGHT), [views, views]),
        picture=picture,
    )
    return row, truth


def _read(labels: Path) -> Truth:
    """Read the objects of a labelme file: a box each, and the points of its group, or all where there is one box."""
    shapes = json.loads(labels.read_text(encoding="utf-8"))["shapes"]
    boxes = [shape for shape in shapes if shape["shape_type"] == "rectangle"]
    truth: Truth = []
    for box in boxes:
        (left, top), (right, bottom) = box["points"]
        points = {
            shape["label"]: (float(shape["points"][0][0]), float(shape["points"][0][1]))
            for shape in shapes
            if shape["shape_type"] == "point" and (len(boxes) == 1 or shape["group_id"] == box["group_id"])
        }
        truth.append((box["label"], (float(left), float(top), float(right), float(bottom)), points))
    return truth
