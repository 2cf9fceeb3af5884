"""What the programs predict with and on: models, and many images that are links to a few."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from benchmarks.trainings import PROTOCOLS, SHARED_DATA, prepare, run_quietly, set_training
from benchmarks.workspace import environment, stage
from keypipe import __version__
from keypipe.demo.scene import write_demo
from keypipe.images.media import VideoWriter, read_image
from keypipe.inference.model_info import METADATA_KEY, format_keypipe_metadata
from keypipe.inference.onnx_model import load_onnx_model
from keypipe.inference.predictor import Predictor, Thresholds
from keypipe.keypoints.skeleton import parse_schema

_EPOCHS = 25  # of the demo's model: it finds most animals then
_SEED = 20


def make_model(folder: Path, imgsz: int) -> Path:
    """Write an ONNX file of random weights and return its path."""
    from tests.pose_checkpoint import write_random_checkpoint

    return export(write_random_checkpoint(folder / "random.pt"), imgsz, folder)


def train_model(folder: Path) -> Path:
    """Train on the demo for some minutes, and return the ONNX file, for inputs of 160 px."""
    root, protocol = folder / "trained", PROTOCOLS["demo"]
    shutil.rmtree(root, ignore_errors=True)
    prepare(root, protocol)
    set_training(root, 0, {**protocol.arguments, "epochs": _EPOCHS})
    run_quietly(stage("train"), root, environment() | {"OMP_NUM_THREADS": "1"})
    own = format_keypipe_metadata(parse_schema(protocol.schema), "AGPL-3.0-or-later", __version__)
    return export(root / "models/best.pt", protocol.arguments["imgsz"], folder, {METADATA_KEY: own})


def export(checkpoint: Path, imgsz: int, folder: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a checkpoint as ONNX into a folder, and return the file's path."""
    from tasks.engine.door.exporting import engine

    engine().configure(folder)
    return engine().export(checkpoint, "onnx", imgsz, {"simplify": True}, metadata or {}, folder, folder).path


def choose_conf(model: Path, source: Path, objects: int) -> float:
    """Return the score that leaves this many objects on an image, on the average of ten images."""
    predictor = Predictor(*load_onnx_model(model, device="cpu"))
    images = sorted(source.iterdir())[:10]
    scores = np.concatenate([predictor.detect(read_image(path), Thresholds(conf=0.01)).scores for path in images])
    return float(np.sort(scores)[-objects * len(images) - 1])


def draw_images(folder: Path, count: int, size_wh: tuple[int, int] = (640, 480)) -> Path:
    """Draw images into the folder ``images`` of a folder, and return that."""
    source = folder / "images"
    source.mkdir(parents=True)
    for path in write_demo(folder / "drawn", count, size_wh=size_wh):
        shutil.move(path, source / path.name)
    return source


def take_photos(folder: Path, count: int, size_wh: tuple[int, int]) -> Path:
    """Write JPEGs as cameras do, of the photos of set squares where they are at hand, else of drawings with grain."""
    source = folder / "images"
    source.mkdir(parents=True)
    photos = sorted((SHARED_DATA / "setsquare").rglob("*.jpg"))
    if not photos:
        photos = sorted(draw_images(folder / "instead", count).iterdir())
    rng = np.random.default_rng(_SEED)
    for number in range(count):
        picture = Image.open(photos[number % len(photos)]).convert("RGB").resize(size_wh, Image.Resampling.BICUBIC)
        grain = np.empty((size_wh[1], size_wh[0], 3), np.int8)
        cv2.randn(grain, (0, 0, 0), (3, 3, 3))
        pixels = np.clip(np.asarray(picture, np.int16) + np.roll(grain, int(rng.integers(999)), axis=1), 0, 255)
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=90)
        (source / f"photo_{number:04d}.jpg").write_bytes(buffer.getvalue())
    return source


class Case(NamedTuple):
    """Something to predict on.

    Attributes:
        title: for the table.
        few: images that a run is made of from which the start is known.
        more: images by which the other run has more; at steady state, these count.
        originals: images that are drawn; the others are links to them.
        make: writes so many into a folder, and returns where they are.
        trained: whether the model is trained on the demo; else its weights are random, for inputs of 640 px.
        seconds: what a round of all programs took where docs/performance.md was measured.
        video: whether they are the frames of a video.
    """

    title: str
    few: int
    more: int
    originals: int
    make: Callable[[Path, int], Path]
    trained: bool
    seconds: float
    video: bool = False


CASES = {
    "small": Case("drawings of 320x240", 100, 1000, 200, lambda f, n: draw_images(f, n, (320, 240)), True, 60),
    "photos": Case("photos of 640x480", 50, 1000, 100, lambda f, n: take_photos(f, n, (640, 480)), False, 400),
    "large": Case("photos of 4000x3000", 10, 100, 10, lambda f, n: take_photos(f, n, (4000, 3000)), False, 200),
    "video": Case("video of 640x480", 100, 1000, 100, draw_images, True, 100, video=True),
}


def make_sources(folder: Path, case: Case) -> tuple[Path, Path]:
    """Return what the run of few images and the run of many predict on; made where it is not there.

    Args:
        folder: of the case; kept.
        case: says how many.
    """
    few, many = (folder / (f"{count}.mp4" if case.video else f"{count}") for count in (case.few, case.few + case.more))
    if not (folder / "originals/done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        case.make(folder / "originals", case.originals)
        (folder / "originals/done").touch()
    originals = sorted((folder / "originals/images").iterdir())
    for path, count in ((few, case.few), (many, case.few + case.more)):
        if path.exists():
            continue
        partial = path.with_name(f"partial-{path.name}")
        names = [originals[number % len(originals)] for number in range(count)]
        if case.video:
            _film(partial, names)
        else:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            for number, original in enumerate(names):
                os.link(original, partial / f"{number:05d}.jpg")
        partial.rename(path)
    return few, many


def _film(path: Path, images: list[Path]) -> None:
    frames = {image: read_image(image) for image in dict.fromkeys(images)}
    height, width = frames[images[0]].shape[:2]
    with VideoWriter(path, (width, height), 25.0) as writer:
        for image in images:
            writer.write(frames[image])
