"""Memory that ends in a training: it goes on with half the batch, once, from its last whole epoch.

A batch that changes between two epochs is part of what a training was: ``batches`` says from which epoch on which size
was used, and a training that is given them trains the same again, however much memory there is.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from keypipe.errors import ConfigError, ModelError
from keypipe.files.atomic import replacing_file
from tasks.engine.training.job import Batch

_BATCHES = "batches.json"
_ATTEMPT = "attempt.json"
_KILLED_LOADER = re.compile(r"DataLoader worker .*(killed|exited unexpectedly)")
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_VMSTAT = Path("/proc/vmstat")


class MemoryEndError(Exception):
    """Memory ended in an epoch, or somewhere before its first batch.

    Attributes:
        batch: size of the training batch, images.
        why: what was said, one line.
    """

    def __init__(self, batch: int, why: str) -> None:
        super().__init__(why)
        self.batch = batch
        self.why = why


class RebatchError(Exception):
    """The epoch that comes next has another batch: the training has to be set up anew."""


class _Attempt(msgspec.Struct):
    """A process that trains: whether the system has ended it for want of memory can be asked afterwards.

    Attributes:
        batch: size of its batch.
        group: whose processes are counted.
        ended: how many of them had been ended for want of memory when it began.
    """

    batch: int
    group: str
    ended: int


def read_batches(scratch: Path, given: Sequence[Batch]) -> list[Batch]:
    """Return the sizes that a training has in turn: those that it is given, and one that memory has forced on it."""
    path = scratch / _BATCHES
    forced = msgspec.json.decode(path.read_bytes(), type=list[Batch]) if path.exists() else []
    return [*given, *forced]


def batch_of(batches: Sequence[Batch], epoch: int) -> int | None:
    """Return the size of the batch in an epoch, counted from 1; None where nothing but the parameters says it."""
    sizes = [batch.size for batch in batches if batch.epoch <= epoch]
    return sizes[-1] if sizes else None


def shrink(scratch: Path, given: Sequence[Batch], epoch: int, ended: MemoryEndError) -> str:
    """Let a training go on with half the batch from an epoch on, and return why.

    Args:
        scratch: the training's folder.
        given: the sizes that it was given.
        epoch: the one that is trained next, from 1.
        ended: how memory ended.

    Raises:
        ModelError: half the batch has been tried already, or there is no smaller one.
    """
    told = f"memory ended in epoch {epoch} with a batch of {ended.batch} ({ended.why})"
    advice = (
        "lower train.batch, then train.imgsz; where it is the machine's own memory, set cache: false and workers: 0 in"
        " local.yaml"
    )
    if (scratch / _BATCHES).exists():
        raise ModelError(f"train: {told}, and half the batch had been tried already; {advice}")
    if ended.batch <= 1:
        raise ModelError(f"train: {told}; {advice}")
    # What was there before is told as well, so that these sizes alone say how it was trained.
    first = [] if given or epoch == 1 else [Batch(1, ended.batch)]
    forced = [*first, Batch(epoch, ended.batch // 2)]
    with replacing_file(scratch / _BATCHES) as temporary:
        temporary.write_bytes(msgspec.json.encode(forced))
    return told


def note_attempt(scratch: Path, batch: int) -> None:
    """Write down that this process trains, for the one that goes on after it if the system ends it."""
    group, ended = count_ended()
    with replacing_file(scratch / _ATTEMPT) as temporary:
        temporary.write_bytes(msgspec.json.encode(_Attempt(batch, group, ended)))


def find_killed(scratch: Path) -> MemoryEndError | None:
    """Return that the process which trained here was ended by the system for want of memory; None: it was not.

    Linux counts how many processes of a group it has ended so. Another process of the group may have been the one, and
    another hand have ended the training; then memory was short all the same.
    """
    path = scratch / _ATTEMPT
    if not path.exists():
        return None
    attempt = msgspec.json.decode(path.read_bytes(), type=_Attempt)
    path.unlink()
    group, ended = count_ended()
    if group != attempt.group or ended <= attempt.ended:
        return None
    return MemoryEndError(attempt.batch, "the system ended the process")


def is_loader_killed(error: BaseException, scratch: Path) -> bool:
    """Tell whether a process that loads images was ended by the system for want of memory."""
    return bool(_KILLED_LOADER.search(str(error))) and find_killed(scratch) is not None


def count_ended() -> tuple[str, int]:
    """Return how many processes the system has ended for want of memory, and which are counted.

    Those of this process's control group, where the kernel tells them apart; else the machine's. 0 where it does not
    count.
    """
    for place, name in _own_groups():
        path = place / name
        if path.exists():
            return str(path), _read_count(path)
    return str(_VMSTAT), _read_count(_VMSTAT)


def _own_groups() -> list[tuple[Path, str]]:
    try:
        lines = _OWN_CGROUP.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
    found: list[tuple[Path, str]] = []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if "memory" in kinds.split(","):
            found.append((_CGROUPS / "memory" / path.lstrip("/"), "memory.oom_control"))
        elif not kinds and path != "/":
            found.append((_CGROUPS / path.lstrip("/"), "memory.events"))
        elif not kinds:  # of a container, which sees its own group as the root
            found.append((_CGROUPS, "memory.events"))
    return found


def _read_count(path: Path) -> int:
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    counts = [int(line.split()[1]) for line in lines if line.startswith("oom_kill ")]
    return counts[0] if counts else 0


def check_batches(batches: Sequence[Batch]) -> None:
    """Check the sizes that a training is given.

    Raises:
        ConfigError: they are not in the order of epochs, or a size is none.
    """
    epochs = [batch.epoch for batch in batches]
    if epochs != sorted(set(epochs)) or any(batch.size < 1 or batch.epoch < 1 for batch in batches):
        raise ConfigError(f"train: no sizes of batches: {', '.join(f'{b.size} from epoch {b.epoch}' for b in batches)}")


def release() -> None:
    """Give back what a training that ended in an error holds of the device's memory."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
