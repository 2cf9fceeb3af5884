"""What a training will cost: time from one measured step, on the images and with the arguments that are proposed."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import yaml

from keypipe.annotations.reader import read_derived
from keypipe.annotations.readings import Folder, Ingested
from keypipe.dataset.yolo import SUFFIXES, format_labels, to_data_yaml, to_yolo
from keypipe.errors import PoseError
from keypipe.keypoints.skeleton import Schema
from keypipe.proposal.training import SCRATCH, Images
from tasks.engine.door.training import TrainJob, engine
from tasks.grading.loss_sigma import DEFAULT_LOSS_SIGMA, SigmaCourse
from tasks.grading.preflight import Preflight, Times
from tasks.progress import Progress
from tasks.starting.looking import Found
from tasks.train import TrainParams
from tasks.workspace.params import Local
from tasks.workspace.scratch import scratch_folder

_VALIDATION_BATCH = 16
_ANY = "fitness"


class Cost(msgspec.Struct, frozen=True):
    """What a training will cost; an estimate.

    Attributes:
        imgsz: input, pixels.
        batch: images a step.
        step_seconds: measured: forward and backward pass of one batch.
        load_seconds: measured: loading and augmenting it.
        epoch_seconds: of all steps of an epoch, and its validation.
        epochs: planned; patience may end the training before.
        total_seconds: of all of them.
        load: of the machine meanwhile, processes that want a core for each core; above 1 an idle one is faster.
    """

    imgsz: int
    batch: int
    step_seconds: float
    load_seconds: float
    epoch_seconds: float
    epochs: int
    total_seconds: float
    load: float | None = None


class _Measured(Exception):  # noqa: N818 - it ends a training that has only been looked at
    def __init__(self, found: Preflight | None) -> None:
        super().__init__()
        self.found = found


def measure_cost(root: Path, found: Found, params: TrainParams, seed: int, local: Local, tell: Progress) -> Cost:
    """Put one batch through the network and back, as the pre-flight of a training does, and reckon.

    Args:
        root: the workspace; scratch is written there, and removed.
        found: the folder.
        params: the section ``train`` that would be written.
        seed: of all draws.
        local: settings of this machine.
        tell: is told what is being done.

    Raises:
        PoseError: there is no object to train on, the training would be refused, or a batch does not fit into the
            device's memory.
    """
    tell("timing a training step", 0, 1)
    arguments = {**params.arguments, "plots": False, "seed": seed}
    if not found.schema.has_pairs and not params.symmetric:
        arguments["fliplr"] = 0.0
    arguments.pop("distill_model", None)  # a teacher's pass comes on top
    batch = int(arguments.get("batch", 16))
    images = _pick(found.read, max(batch, _VALIDATION_BATCH))
    if not images:
        raise PoseError("no image has an object that can be read: `keypipe doctor` shows why")
    with scratch_folder(root, "cost") as scratch:
        folder = scratch / "data"
        counts = {
            "train": _lay_out(found, images[:batch], folder, "train"),
            "val": _lay_out(found, images[:_VALIDATION_BATCH], folder, "val"),
        }
        _write_data_yaml(folder, found.schema)
        job = TrainJob(
            model=_choose_model(root, params.model),
            schema=found.schema,
            data=(folder / "data.yaml").resolve(),
            arguments=arguments,
            device=local.device,
            workers=local.workers,
            cache=local.cache,
            scratch=(scratch / "train").resolve(),
            instances=counts,
            loss_sigma=SigmaCourse(DEFAULT_LOSS_SIGMA, len(found.schema.slots)),
            best_by=_ANY,
            score=lambda _rows: {},
            on_preflight=_stop,
        )
        job.scratch.mkdir()
        times = _measure(root, job, local)
    tell("timing a training step", 1, 1)
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    cost = reckon(times, found.images, int(arguments.get("imgsz", 640)), batch, _count_loaders(local, times))
    return msgspec.structs.replace(cost, load=load)


def _choose_model(root: Path, model: str) -> str:
    """Return what is timed: a file of the workspace, a model YAML, or in place of published weights their network."""
    if (root / model).exists():
        return str((root / model).resolve())
    return model if model.endswith((".yaml", ".yml")) else SCRATCH


def _measure(root: Path, job: TrainJob, local: Local) -> Times:
    engine().configure(root, local.threads)
    try:
        engine().train(job)
    except _Measured as measured:
        if measured.found is None:
            raise PoseError("a batch does not fit into the device's memory: take a smaller train.batch") from None
        return measured.found.times
    raise AssertionError("a training was not stopped by its pre-flight")


def _stop(found: Preflight | None) -> None:
    raise _Measured(found)


def _count_loaders(local: Local, times: Times) -> int:
    """Return how many processes load: none where an epoch of one batch took as long as loading and a step."""
    if local.workers is not None:
        return local.workers
    return 0 if times.epoch_seconds >= times.step_seconds + times.load_seconds else 2


def reckon(times: Times, images: Images, imgsz: int, batch: int, workers: int) -> Cost:
    """Reckon what a training costs.

    Args:
        times: of an epoch of one batch, with one batch of validation.
        images: to train on, and to choose the best epoch by.
        imgsz: input, pixels.
        batch: images a step.
        workers: processes that load.
    """
    one = max(times.step_seconds, times.load_seconds / workers) if workers else times.step_seconds + times.load_seconds
    validation = max(0.0, times.epoch_seconds - one)
    epoch = one * math.ceil(images.train / batch) + validation * math.ceil(images.val / _VALIDATION_BATCH)
    return Cost(imgsz, batch, times.step_seconds, times.load_seconds, epoch, times.epochs, epoch * times.epochs)


def _pick(folder: Folder, count: int) -> list[Ingested]:
    """Pick images with objects, evenly spread."""
    numbers = [n for n, reading in enumerate(folder.files.readings()) if reading.file.image and len(reading.objects)]
    every = max(1, len(numbers) // count)
    return [folder.files[number] for number in numbers[::every][:count]]


def _lay_out(found: Found, files: Sequence[Ingested], folder: Path, split: str) -> dict[str, int]:
    """Write images and labels as Ultralytics wants them; return the number of objects of each image."""
    counts: dict[str, int] = {}
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True)
    for number, file in enumerate(files):
        assert file.image is not None
        suffix = Path(file.image.path).suffix
        suffix = suffix if suffix[1:].lower() in SUFFIXES else ".jpg"  # which Ultralytics goes by; content decides
        image = folder / f"images/{split}/{number}{suffix}"
        if file.derived:
            image.write_bytes(read_derived(found.folder, file, found.options.depth, found.options.encoding))
        else:
            image.symlink_to(found.folder / file.image.path.partition("/")[2])
        rows = [to_yolo(instance, file.image.size_wh, found.schema) for instance in file.image.instances]
        (folder / f"labels/{split}/{number}.txt").write_text(format_labels(rows), encoding="utf-8")
        counts[image.name] = len(rows)
    return counts


def _write_data_yaml(folder: Path, schema: Schema) -> None:
    sigmas = SigmaCourse(DEFAULT_LOSS_SIGMA, len(schema.slots)).last
    values = to_data_yaml(schema, ["train", "val"], [float(sigma) for sigma in sigmas])
    (folder / "data.yaml").write_text(yaml.safe_dump({**values, "path": str(folder.resolve())}), encoding="utf-8")
