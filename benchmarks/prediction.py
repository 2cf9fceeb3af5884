"""``keypipe predict`` against ``yolo predict`` with the same ONNX file, process start included.

    python -m benchmarks.prediction [--images 100] [--times 5] [--objects 2] [--model FILE --source FOLDER]

Both draw every image into a folder of their own and say what they found (keypipe as JSON, Ultralytics as label files).
The programs take turns. Without ``--model`` a YOLOv8n-pose of random weights for inputs of 640 px is made, and drawings
to run it on; what it finds makes no sense, and the score from which it counts is chosen so that it finds as many
objects on an image as ``--objects`` says: where there are hundreds, drawing them takes as long as finding them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.timing import Run, alternate, median, ratios, run
from keypipe.demo.scene import write_demo
from keypipe.images.media import read_image
from keypipe.inference.onnx_model import load_onnx_model
from keypipe.inference.predictor import Predictor, Thresholds
from keypipe.keypoints.predictions import DEFAULT_CONF

ROOT = Path(__file__).parents[1]


def make_model(folder: Path, imgsz: int) -> Path:
    """Write an ONNX file of random weights and return its path."""
    from tasks.engine.door.exporting import engine
    from tests.pose_checkpoint import write_random_checkpoint

    engine().configure(folder)
    checkpoint = write_random_checkpoint(folder / "random.pt")
    return engine().export(checkpoint, "onnx", imgsz, {"simplify": True}, {}, folder, folder).path


def choose_conf(model: Path, source: Path, objects: int) -> float:
    """Return the score that leaves this many objects on an image, on the average of ten images."""
    predictor = Predictor(*load_onnx_model(model, device="cpu"))
    images = sorted(source.iterdir())[:10]
    scores = np.concatenate([predictor.detect(read_image(path), Thresholds(conf=0.01)).scores for path in images])
    return float(np.sort(scores)[-objects * len(images) - 1])


def count_ours(folder: Path) -> int:
    """Return the number of objects that keypipe found."""
    index = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
    return sum(entry["objects"] for entry in index["files"])


def count_theirs(folder: Path) -> int:
    """Return the number of objects that Ultralytics found."""
    return sum(len(path.read_text().splitlines()) for path in folder.rglob("*.txt"))


class Result(NamedTuple):
    """Runs of both programs in turn, and the number of objects that each found."""

    ours: list[Run]
    theirs: list[Run]
    found: tuple[int, int]


def measure(folder: Path, model: Path, source: Path, conf: float, times: int) -> Result:
    """Run both programs in turn.

    Args:
        folder: for what they write.
        model: the ONNX file.
        source: folder of images.
        conf: smallest score of an object.
        times: how often each is run.
    """
    programs = Path(sys.executable).parent
    settings = {"YOLO_CONFIG_DIR": str(folder / "ultralytics"), "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
    quiet = os.environ | settings
    here = os.environ | {"PYTHONPATH": str(ROOT)}  # this clone, wherever the environment's keypipe was installed from
    ours, theirs = folder / "ours", folder / "theirs"

    def keypipe() -> Run:
        shutil.rmtree(ours, ignore_errors=True)
        command = [str(programs / "keypipe"), "predict", str(source), "--model", str(model), "--output", str(ours)]
        return run([*command, "--conf", str(conf), "--device", "cpu"], folder, here)

    def yolo() -> Run:
        shutil.rmtree(theirs, ignore_errors=True)
        command = [str(programs / "yolo"), "pose", "predict", f"model={model}", f"source={source}", f"conf={conf}"]
        return run([*command, f"project={theirs}", "name=run", "save_txt=True", "device=cpu"], folder, quiet)

    keypipe()  # neither pays for cold files
    yolo()
    first, second = alternate(keypipe, yolo, times)
    return Result(first, second, (count_ours(ours), count_theirs(theirs)))


def draw_images(folder: Path, count: int) -> Path:
    """Draw images of 640x480 into a folder and return it."""
    source = folder / "images"
    source.mkdir()
    for path in write_demo(folder / "drawn", count, size_wh=(640, 480)):
        shutil.move(path, source / path.name)
    return source


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--imgsz", type=int, default=640, help="input of the model that is made")
    parser.add_argument("--objects", type=int, default=2, help="found by that model on an image")
    parser.add_argument("--model", type=Path, help="an ONNX file of your own")
    parser.add_argument("--source", type=Path, help="a folder of images of your own")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = options.model.resolve() if options.model else make_model(folder, options.imgsz)
        source = options.source.resolve() if options.source else draw_images(folder, options.images)
        n_images = len(list(source.iterdir()))
        conf = DEFAULT_CONF if options.model else choose_conf(model, source, options.objects)
        result = measure(folder, model, source, conf, options.times)
    print(f"{n_images} images, {options.times} pairs of runs in turn")
    print(f"{'':16}{'median s':>10}{'peak MB':>10}{'objects':>10}")
    for name, runs, found in zip(("keypipe predict", "yolo predict"), result[:2], result.found, strict=True):
        print(f"{name:16}{median(runs):10.2f}{max(item.total_mb for item in runs):10.0f}{found:10}")
    print(f"ratio yolo / keypipe: {ratios(result.theirs, result.ours)} (target: above 1)")


if __name__ == "__main__":
    main()
