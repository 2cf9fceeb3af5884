"""The programs side by side: how each is called, and how many objects it found."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.timing import Run, alternate, run
from keypipe.batch.prediction import INDEX

ROOT = Path(__file__).parents[2]

PROGRAMS: dict[str, tuple[str, ...]] = {
    "keypipe": (),
    "yolo": ("save_txt=True",),
    "keypipe --original-size": ("--original-size",),
    "keypipe --no-pictures": ("--no-pictures",),
    "yolo save=False": ("save_txt=True", "save=False"),
}
"""The programs by their titles, and what each is told besides; those of Ultralytics begin with its name."""


def count_ours(folder: Path) -> int:
    """Return the number of objects that keypipe found."""
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    return sum(entry["objects"] for entry in index["files"])


def count_theirs(folder: Path) -> int:
    """Return the number of objects that Ultralytics found."""
    return sum(len(path.read_text().splitlines()) for path in folder.rglob("*.txt"))


class Work(NamedTuple):
    """What a program predicts with and on.

    Attributes:
        model: the ONNX file.
        source: images or a video.
        conf: smallest score of an object.
    """

    model: Path
    source: Path
    conf: float


def predict(title: str, work: Work, folder: Path) -> tuple[Run, int]:
    """Run a program, process start included.

    Args:
        title: one of ``PROGRAMS``.
        work: with and on what.
        folder: for what it writes, which is put into its folder ``aside`` afterwards: deleting thousands of files makes
            an ext4 without a journal slow at making others for some minutes.

    Returns:
        What it took, and how many objects it found.
    """
    programs, output, aside = Path(sys.executable).parent, folder / "output", folder / "aside"
    shutil.rmtree(output, ignore_errors=True)
    if title.startswith("yolo"):
        command = [str(programs / "yolo"), "pose", "predict", f"model={work.model}", f"source={work.source}"]
        command += [f"conf={work.conf}", f"project={output}", "name=run", "device=cpu", *PROGRAMS[title]]
        quiet = {"YOLO_CONFIG_DIR": str(folder / "ultralytics"), "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
        took, found = run(command, folder, os.environ | quiet), count_theirs(output)
    else:
        command = [str(programs / "keypipe"), "predict", str(work.source), "--model", str(work.model)]
        command += ["--output", str(output), "--conf", str(work.conf), "--device", "cpu", *PROGRAMS[title]]
        # This clone, wherever the environment's keypipe was installed from.
        took, found = run(command, folder, os.environ | {"PYTHONPATH": str(ROOT)}), count_ours(output)
    aside.mkdir(exist_ok=True)
    output.rename(aside / f"{time.monotonic_ns()}")
    return took, found


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
    work = Work(model, source, conf)
    found = {title: predict(title, work, folder)[1] for title in ("keypipe", "yolo")}  # neither pays for cold files

    def program(title: str) -> Callable[[], Run]:
        return lambda: predict(title, work, folder)[0]

    ours, theirs = alternate(program("keypipe"), program("yolo"), times)
    return Result(ours, theirs, (found["keypipe"], found["yolo"]))
