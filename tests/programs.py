"""Checkpoints that are more than weights: programs that would run when they are loaded, and unknown classes."""

from __future__ import annotations

import builtins
import os
import pickle
import shlex
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any


class _Call:
    """Pickled, it asks for a function to be called when it is loaded."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._what = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._what


def _shell(mark: Path) -> _Call:
    return _Call(os.system, f"touch {shlex.quote(str(mark))}")


def _python(mark: Path) -> _Call:
    return _Call(builtins.exec, f"open({str(mark)!r}, 'w').close()")


def _save(path: Path, content: Any, **options: Any) -> None:
    import torch

    torch.save({"model": content, "train_args": {}, "epoch": -1}, path, **options)


def _save_within(path: Path, mark: Path) -> None:
    """Hide a program among the attributes of a model that is sound otherwise."""
    import torch

    from tasks.engine.weights import read_checkpoint
    from tests.pose_checkpoint import write_random_checkpoint

    checkpoint = read_checkpoint(write_random_checkpoint(path))
    checkpoint["model"].note = _python(mark)
    torch.save(checkpoint, path)


def _save_getattr(path: Path, _mark: Path) -> None:
    """Ask for an attribute that leads from a class of torch to everything else."""
    import torch

    _save(path, _Call(getattr, torch.nn.Conv2d, "__init__"))


def _save_unknown(path: Path, _mark: Path) -> None:
    """Save a network of a class that neither torch nor Ultralytics has."""
    import torch

    module = types.ModuleType("zoo")
    zebra = type("Zebra", (torch.nn.Module,), {"__module__": "zoo"})
    module.Zebra = zebra  # type: ignore[attr-defined]
    sys.modules["zoo"] = module
    try:
        _save(path, zebra())
    finally:
        del sys.modules["zoo"]


def _save_pickle(path: Path, mark: Path, protocol: int = 2) -> None:
    path.write_bytes(pickle.dumps({"model": _python(mark)}, protocol))


PROGRAMS: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "a shell command": (lambda path, mark: _save(path, _shell(mark)), "posix.system"),
    "python": (lambda path, mark: _save(path, _python(mark)), "exec"),
    "the old format": (
        lambda path, mark: _save(path, _shell(mark), _use_new_zipfile_serialization=False),
        "posix.system",
    ),
    "within a sound model": (_save_within, "exec"),
    "an attribute": (_save_getattr, "getattr"),
    "an unknown class": (_save_unknown, "zoo.Zebra"),
    "a plain pickle": (_save_pickle, "exec"),
    "a pickle of today": (lambda path, mark: _save_pickle(path, mark, protocol=4), ""),
}
"""Writers, which take the path of the checkpoint and a file that it would write; and what it asks for."""


def write_program(path: Path, mark: Path, kind: str = "python") -> Path:
    """Write a checkpoint that would write a file when it is loaded."""
    PROGRAMS[kind][0](path, mark)
    return path
