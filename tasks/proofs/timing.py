"""How long exported models take on this machine, beside PyTorch."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.inference.latency import Advice, Measured, Program, Setting, Timing, advise, measure
from keypipe.inference.letterbox import letterbox
from keypipe.inference.model_info import ModelInfo
from keypipe.inference.parity import pair_rows
from keypipe.inference.predictor import Predictor, RawModel
from tasks.engine.door.exporting import engine
from tasks.proofs.parity import Candidate
from tasks.workspace.program import say

PYTORCH = "pytorch"
BATCHES = (1, 16)
EXACT = ("onnx", "openvino", "torchscript", PYTORCH)
"""What to use of models that are about as fast: what needs least around it first."""

ROUNDED = "onnx_int8"

_SAME = 0.05
"""Largest difference, in the model's own units, between an image in a batch and alone: summed in another order."""


class Machine(msgspec.Struct, frozen=True):
    """Where times were measured."""

    processor: str
    cores: int
    system: str


class Latency(msgspec.Struct):
    """Times on this machine.

    Attributes:
        machine: where.
        imgsz: (height, width) of the models' input, pixels.
        measured: forward passes, a setting each.
        before: pre-processing of one image: number of threads, and the time.
        after: post-processing of one image, on one thread.
        advice: what to use for one image and for batches, exact first.
    """

    machine: Machine
    imgsz: tuple[int, int]
    measured: list[Measured]
    before: list[tuple[int, Timing]]
    after: Timing
    advice: list[Advice]

    def figures(self) -> dict[str, float]:
        """Return the medians by metric name."""
        found = {
            f"latency_{name}/batch_{item.setting.batch}_threads_{item.setting.threads}_ms": timing.median_ms
            for item in self.measured
            for name, timing in item.timings.items()
        }
        before = {f"latency/before_threads_{threads}_ms": timing.median_ms for threads, timing in self.before}
        return found | before | {"latency/after_ms": self.after.median_ms}


def measure_latency(
    weights: Path,
    candidates: Mapping[str, Candidate],
    info: ModelInfo,
    images: Sequence[NDArray[np.uint8]],
    seconds: float,
    threads: int,
) -> Latency:
    """Time the weights and their exports in turn, on real images.

    Args:
        weights: the checkpoint.
        candidates: the exports; those whose engine lets nobody choose its threads are left out.
        info: classes, keypoints and input size of all of them.
        images: uint8 (height, width, 3), BGR; at least one.
        seconds: about how long each may take in a setting.
        threads: all threads of this machine.
    """
    timed = {name: candidate for name, candidate in candidates.items() if candidate.runtime.timed}
    inputs = np.concatenate([letterbox(image, info.imgsz)[0] for image in images])
    alone: dict[str, NDArray[np.float32]] = {}
    measured: list[Measured] = []
    for batch in BATCHES:
        chosen = np.arange(batch) % len(inputs)
        tensor = np.ascontiguousarray(inputs[chosen])
        for count in sorted({1, threads}):
            models = {PYTORCH: engine().reference().load(weights, count, batch)}
            models |= {name: item.runtime.load(item.path, count, batch) for name, item in timed.items()}
            if batch == 1:
                alone = {
                    name: np.concatenate([model(image[None]) for image in inputs]) for name, model in models.items()
                }
            else:
                models = {
                    name: model
                    for name, model in models.items()
                    if _agrees(name, model, tensor, alone[name][chosen], end2end=info.end2end)
                }
            measured.append(Measured(Setting(batch, count), measure(_to_programs(models, tensor), seconds)))
    model = engine().reference().load(weights, threads)
    before, after = _measure_around(model, info, images[0], seconds, threads)
    by_batch = [[item for item in measured if item.setting.batch == batch] for batch in BATCHES]
    advice = [found for items in by_batch for found in _advise(items)]
    return Latency(describe_machine(), info.imgsz, measured, before, after, advice)


def _advise(measured: Sequence[Measured]) -> list[Advice]:
    """Say what to use for batches of a size: of the exact ones, and what rounds where that is faster."""
    exact = advise(measured, PYTORCH, EXACT)
    any_of_all = advise(measured, PYTORCH, [*EXACT, ROUNDED])
    return [exact, any_of_all] if any_of_all.best == ROUNDED else [exact]


def _to_programs(models: Mapping[str, RawModel], tensor: NDArray[np.float32]) -> dict[str, Program]:
    return {name: partial(model, tensor) for name, model in models.items()}


def _agrees(
    name: str, model: RawModel, tensor: NDArray[np.float32], alone: NDArray[np.float32], *, end2end: bool
) -> bool:
    """Tell whether a model finds in the images of a batch what it finds in each of them alone."""
    try:
        together = model(tensor)
    except Exception as error:  # noqa: BLE001 - each engine fails in its own way, and only a timing is lost
        reason = str(error).splitlines()[0]
    else:
        if together.shape == alone.shape:
            pairs = map(pair_rows, together, alone) if end2end else [(together, alone)]
            if max(np.abs(one - two).max() for one, two in pairs) < _SAME:
                return True
        reason = "it then says something else"
    say(f"export: {name} is not timed with {len(tensor)} images at once: {reason}")
    return False


def _measure_around(
    model: RawModel, info: ModelInfo, image: NDArray[np.uint8], seconds: float, threads: int
) -> tuple[list[tuple[int, Timing]], Timing]:
    """Time what comes before and after a model, on an image and on what the model says of it."""
    predictor = Predictor(model, info)
    before: list[tuple[int, Timing]] = []
    for count in sorted({1, threads}):
        with _opencv_threads(count):
            before.append((count, measure({"": partial(predictor.prepare, image)}, seconds)[""]))
    tensor, placement = predictor.prepare(image)
    raw = model(tensor)[0]
    return before, measure({"": partial(predictor.finish, raw, placement)}, seconds)[""]


@contextmanager
def _opencv_threads(count: int) -> Iterator[None]:
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def describe_machine() -> Machine:
    """Say what this machine is."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    return Machine(processor, os.cpu_count() or 1, f"{platform.system()} {platform.machine()}")
