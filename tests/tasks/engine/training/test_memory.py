"""What says that memory has ended, and which batch a training has when; trainings: faults/test_memory.py."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from keypipe.errors import ConfigError, ModelError
from tasks.engine.training import memory
from tasks.engine.training.job import Batch
from tasks.train import describe_batches, parse_batches
from tasks.workspace.access import is_memory_end

CUDA = memory.MemoryEndError(8, "CUDA out of memory")


def ask_numpy() -> None:
    np.empty(2**60, np.uint8)


def ask_torch() -> None:
    torch.empty(2**60, dtype=torch.uint8)


def ask_opencv() -> None:
    cv2.resize(np.zeros((8, 8), np.uint8), (2**30 - 1, 2**30 - 1))


def ask_python() -> None:
    _ = b"0" * 2**60


@pytest.mark.parametrize("ask", [ask_numpy, ask_torch, ask_opencv, ask_python])
def test_what_libraries_say_that_get_no_memory_is_understood(ask: object) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each has its own
        ask()  # type: ignore[operator]
    assert is_memory_end(caught.value), caught.value


def test_what_cuda_says_is_understood_and_other_errors_are_not() -> None:
    assert is_memory_end(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert is_memory_end(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"))
    assert is_memory_end(OSError(12, "Cannot allocate memory"))
    for error in (RuntimeError("the loss is not a number"), ValueError("8"), KeyboardInterrupt("out of memory")):
        assert not is_memory_end(error)


def test_the_batch_is_halved_once_and_no_further(tmp_path: Path) -> None:
    assert memory.read_batches(tmp_path, ()) == []
    told = memory.shrink(tmp_path, (), 1, CUDA)
    assert told == "memory ended in epoch 1 with a batch of 8 (CUDA out of memory)"
    assert memory.read_batches(tmp_path, ()) == [Batch(1, 4)]
    with pytest.raises(ModelError, match=r"batch of 8 .*half the batch had been tried already; lower train\.batch"):
        memory.shrink(tmp_path, (), 2, CUDA)


def test_there_is_no_half_of_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"with a batch of 1 .*; lower train\.batch"):
        memory.shrink(tmp_path, (), 1, memory.MemoryEndError(1, "no memory"))


def test_what_was_there_before_is_told_as_well(tmp_path: Path) -> None:
    memory.shrink(tmp_path, (), 5, CUDA)
    batches = memory.read_batches(tmp_path, ())
    assert [memory.batch_of(batches, epoch) for epoch in (1, 4, 5, 9)] == [8, 8, 4, 4]
    assert memory.batch_of([], 3) is None


def test_a_run_that_is_reproduced_may_shrink_as_well(tmp_path: Path) -> None:
    given = (Batch(1, 16), Batch(12, 8))
    memory.shrink(tmp_path, given, 5, memory.MemoryEndError(16, "no memory"))
    batches = memory.read_batches(tmp_path, given)
    assert [memory.batch_of(batches, epoch) for epoch in (1, 4, 5, 20)] == [16, 16, 8, 8]


@pytest.mark.parametrize("text", ["", "1:8", "1:16 12:8"])
def test_sizes_are_read_as_they_are_written(text: str) -> None:
    batches = parse_batches(text)
    memory.check_batches(batches)
    assert " ".join(f"{batch.epoch}:{batch.size}" for batch in batches) == text
    assert describe_batches(batches) == text.replace("1:16 12:8", "16 from epoch 1, 8 from epoch 12").replace(
        "1:8", "8 from epoch 1"
    )


@pytest.mark.parametrize("text", ["8", "1:8:2", "one:8", "2:8 1:4", "1:0", "1:8 1:4"])
def test_what_are_no_sizes_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        memory.check_batches(parse_batches(text))


GROUPS = {
    "own group": ("5:cpu:/a\n4:memory:/docker/1\n0::/\n", "memory/docker/1/memory.oom_control"),
    "version 2": ("0::/user.slice/a.scope\n", "user.slice/a.scope/memory.events"),
    "container": ("0::/\n", "memory.events"),
}


@pytest.mark.parametrize("kind", GROUPS)
def test_a_process_that_the_system_ended_is_told_by_its_groups_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    lines, name = GROUPS[kind]
    (own := tmp_path / "own").write_text(lines)
    (count := tmp_path / "cgroup" / name).parent.mkdir(parents=True)
    count.write_text("low 0\noom 4\noom_kill 2\noom_group_kill 0\n")
    monkeypatch.setattr(memory, "_OWN_CGROUP", own)
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "cgroup")
    assert memory.find_killed(tmp_path) is None
    for after, killed in ((2, False), (3, True)):
        count.write_text("oom_kill 2\n")
        memory.note_attempt(tmp_path, 8)
        count.write_text(f"oom_kill {after}\n")
        found = memory.find_killed(tmp_path)
        assert (found is not None and found.batch == 8) == killed
        assert memory.find_killed(tmp_path) is None, "told once"


def test_where_no_group_counts_the_machine_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (vmstat := tmp_path / "vmstat").write_text("nr_free_pages 7\noom_kill 3\n")
    monkeypatch.setattr(memory, "_OWN_CGROUP", tmp_path / "none")
    monkeypatch.setattr(memory, "_VMSTAT", vmstat)
    assert memory.count_ended() == (str(vmstat), 3)
    vmstat.unlink()  # as on macOS
    assert memory.count_ended() == (str(vmstat), 0)
