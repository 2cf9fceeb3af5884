"""What MLflow is to be told, on the disk until a server has taken it: a folder for each run, a file for each thing.

Whatever a run records goes through here. So neither a server that is away nor a kill loses any of it, and what is sent
twice, because the answer to the first time got lost, is sent with the same times and names, which MLflow takes as one.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from keypipe.files.atomic import replacing_file
from tasks.workspace.places import OUTBOX
from tasks.workspace.scratch import remove

_RUN = "run.msgpack"
_LOCK = "lock"


class RunInfo(msgspec.Struct):
    """The run that a box is of.

    Attributes:
        server: as ``client.server_name`` has it.
        experiment: name of its experiment.
        fingerprint: of the training that it is, or belongs to.
        name: that MLflow shows.
        stage: of a child run; empty for a training.
        guest: the run of a training that was there before: figures are added to it, and it is neither made nor ended.
        tags: that it is made with.
        begun: when, milliseconds since the epoch.
        run_id: the server's; empty until it has one.
        asked: the server was asked for one, and its answer may have got lost.
        ended: no more will come.
        begun_as: name of the box that the run was begun with, where this one goes on with a run that has no id yet.
    """

    server: str
    experiment: str
    fingerprint: str
    name: str
    stage: str = ""
    guest: bool = False
    tags: dict[str, str] = {}
    begun: int = 0
    run_id: str = ""
    asked: bool = False
    ended: bool = False
    begun_as: str = ""


class Split(msgspec.Struct, frozen=True):
    """A split that figures were measured on: the md5 of its annotations, and how much they hold."""

    md5: str
    images: int
    objects: int


class Metrics(msgspec.Struct, tag="metrics"):
    """Figures of an epoch, or of a whole run.

    Attributes:
        figures: by their names.
        step: the epoch; 0 for a whole run.
        time: milliseconds since the epoch.
        splits: what those were measured on whose names begin with a split's.
    """

    figures: dict[str, float]
    step: int
    time: int
    splits: dict[str, Split] = {}


class Params(msgspec.Struct, tag="params"):
    """Parameters."""

    params: dict[str, str]


class Tags(msgspec.Struct, tag="tags"):
    """Tags."""

    tags: dict[str, str]


class Data(msgspec.Struct, tag="data"):
    """The raw data that a training is of: DVC's name for them, and how many there are of what."""

    raw_version: str
    counts: dict[str, int]


class Files(msgspec.Struct, tag="files"):
    """Files, which lie beside, and the folder of artifacts that they go to."""

    to: str | None


class OnnxModel(msgspec.Struct, tag="onnx"):
    """An ONNX file, which lies beside, to be logged as a model; the network's input in pixels."""

    height: int
    width: int


class Status(msgspec.Struct, tag="status"):
    """Where a run stands from now on: RUNNING, FINISHED, FAILED or KILLED, and why; a time in milliseconds."""

    status: str
    reason: str
    time: int


class Note(msgspec.Struct, tag="note"):
    """Say anew in words what the run is and what came of it, from what the server knows when it is told."""


Item = Metrics | Params | Tags | Data | Files | OnnxModel | Status | Note


class Box:
    """What one run has to tell.

    Attributes:
        path: its folder.
        run: what is known of the run; ``save`` writes it down.
    """

    def __init__(self, path: Path, run: RunInfo) -> None:
        self.path = path
        self.run = run
        self._lock = FileLock(path / _LOCK, thread_local=False, fallback_to_soft=False)
        self._saving = threading.Lock()  # what is sent beside a training is noted while the training adds to the box

    @property
    def name(self) -> str:
        """Its name, which no other box of any workspace has."""
        return self.path.name

    @property
    def subject(self) -> str:
        """What run it speaks of; several boxes may speak of one training."""
        return self.name if self.run.stage else self.run.name

    def save(self) -> None:
        """Write down what is known of the run."""
        with self._saving:
            _write(self.path / _RUN, self.run)

    def add(self, item: Item, source: Path | None = None) -> None:
        """Add something to be told.

        Args:
            item: it.
            source: the file, or the folder, that goes with it; it may change or go afterwards.
        """
        if not (self.path / _RUN).exists():
            self.save()
        last = max((int(path.name.partition(".")[0]) for path in self.path.glob("[0-9]*.item")), default=0)
        path = self.path / f"{last + 1:06d}.item"
        beside = path.with_suffix(".files")
        remove(beside)
        if source is not None and source.is_dir():
            shutil.copytree(source, beside, copy_function=shutil.copyfile)
        elif source is not None:
            beside.mkdir()
            shutil.copyfile(source, beside / source.name)
        _write(path, item)
        if isinstance(item, Status):
            self.run.ended = item.status != "RUNNING"
            self.save()

    def items(self) -> list[tuple[Path, Item]]:
        """Return what is to be told, in its order, each with the file that says it."""
        return [
            (path, msgspec.msgpack.decode(path.read_bytes(), type=Item))
            for path in sorted(self.path.glob("[0-9]*.item"))
        ]

    def told(self, path: Path) -> None:
        """Drop what the server has taken."""
        path.unlink(missing_ok=True)
        remove(path.with_suffix(".files"))

    def close(self) -> None:
        """Let go of the box; it is removed if all is told and no more will come."""
        if self.run.ended and not self.items():
            remove(self.path)
        self._lock.release()

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the box while the block runs; yields False where another process has it."""
        if self._lock.is_locked:
            yield True
            return
        try:
            self._lock.acquire(blocking=False)
        except (Timeout, OSError):
            yield False
            return
        try:
            there = (self.path / _RUN).exists()
            yield there
            if not there:  # sent and removed by another process meanwhile; the lock made its folder anew
                remove(self.path)
        finally:
            self._lock.release()

    def hold(self) -> None:
        """Hold the box until it is closed, or the process ends."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()

    def discard(self) -> None:
        """Remove the box with all that is in it."""
        remove(self.path)
        self._lock.release()


def open_box(root: Path, run: RunInfo) -> Box:
    """Make a box for a run, held by this process."""
    begun = run.begun or now()
    path = root / OUTBOX / f"{begun}-{os.urandom(8).hex()}"
    box = Box(path, msgspec.structs.replace(run, begun=begun))
    box.hold()
    box.save()
    return box


def list_boxes(root: Path) -> list[Box]:
    """Return the boxes of a workspace, oldest first."""
    boxes: list[Box] = []
    for path in sorted((root / OUTBOX).glob("*/")):
        try:
            run = msgspec.msgpack.decode((path / _RUN).read_bytes(), type=RunInfo)
        except (OSError, msgspec.DecodeError):  # killed before anything was in it
            continue
        boxes.append(Box(path, run))
    return boxes


def is_box_name(name: str) -> bool:
    """Tell whether a run is called by its box, since the server was away and has given it no id yet."""
    return re.fullmatch(r"\d+-[0-9a-f]{16}", name) is not None


def end_abandoned(root: Path) -> None:
    """Have the runs told as KILLED whose process is gone."""
    for box in list_boxes(root):
        if not box.run.ended:
            with box.held() as free:
                if free:
                    box.add(Status("KILLED", "its process is gone", now()))
                    box.add(Note())


def count_waiting(root: Path) -> Mapping[str, int]:
    """Count the runs that a server was not told all of, by server; those whose process lives are not among them."""
    found: dict[str, set[str]] = {}
    for box in list_boxes(root):
        with box.held() as free:
            if free:
                found.setdefault(box.run.server, set()).add(box.subject)
    return {server: len(subjects) for server, subjects in found.items()}


def describe_waiting(root: Path) -> list[str]:
    """Return what a server was not told yet, one line for each."""
    return [
        f"MLflow ({server}) was not told all of {count} {'run' if count == 1 else 'runs'}: it waits in {OUTBOX}, and"
        " the next keypipe command that reaches the server sends it"
        for server, count in count_waiting(root).items()
    ]


def now() -> int:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _write(path: Path, value: object) -> None:
    with replacing_file(path) as temporary:
        temporary.write_bytes(msgspec.msgpack.encode(value))
