"""Whether a workspace can be worked in: its path, the permission to write, and who the user is."""

from __future__ import annotations

import errno
import getpass
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from keypipe.errors import ConfigError
from tasks.workspace.places import (
    DATASET,
    EXPORTS,
    LOCK,
    METRICS,
    MODELS,
    PARAMS_FILE,
    RAW,
    RAW_FILE,
    REPORTS,
    STATE,
)

_DVC = Path(".dvc")
WRITTEN = (
    Path(), Path(PARAMS_FILE), LOCK, RAW_FILE.parent, RAW_FILE, DATASET, MODELS, EXPORTS, REPORTS, METRICS, STATE, _DVC,
)  # fmt: skip
"""What commands and stages write into."""
_WITH_FOLDERS = {REPORTS, STATE, _DVC}
"""Those whose folders they write into as well."""

_OF_THE_MACHINE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_BYTES = 1 << 20
"""A disk with less room than this is full."""
_NO_MEMORY = (
    "out of memory",  # CUDA's allocator
    "can't allocate memory",  # torch's for the CPU
    "not enough memory",  # the same on Windows
    "insufficient memory",  # OpenCV
    "cannot allocate memory",  # ENOMEM, as what loads images passes it on
    "cublas_status_alloc_failed",
    "cudnn_status_internal_error",
    "unable to find an engine",  # cuDNN, without room to work in; as Ultralytics takes it
)
_NOT_WRITTEN = (
    "failed writing file", "file write failed", "iostream error", "fail at inline_container.cc",
    "database or disk is full", "no space left on device",
)  # fmt: skip
"""What torch, SQLite and others say that tell no number of an error."""


def name_user() -> None:
    """Give a user who has no entry in the system's list of users a name, for programs that ask for one.

    In a container that was started with ``docker run --user`` there is none, and DVC fails without it.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13 on
        os.environ["LOGNAME"] = f"uid{os.getuid()}"


def check_place(root: Path, moved: Sequence[Path] = ()) -> None:
    """Check that a workspace lies where it can be worked in.

    Args:
        root: the workspace.
        moved: what will be moved away as well, relative to it.

    Raises:
        ConfigError: its path is one that a part of the pipeline cannot take, or it cannot be written into.
    """
    place = str(root.resolve())
    if "?" in place:
        raise ConfigError(
            f"{place!r}: the path of a workspace must not have a question mark in it, at which the addresses of"
            " MLflow's and Prefect's databases end; rename the folder"
        )
    refused = [path for path in _list_written(root, moved) if not _is_writable(path)]
    if refused:
        others = f" and {len(refused) - 1} more" if refused[1:] else ""
        raise ConfigError(
            f"{refused[0]}: no permission to write (user {os.getuid()}, owner {refused[0].stat().st_uid}){others};"
            f" `sudo chown -R {os.getuid()} {place!r}` makes the workspace yours, if its disk is not read-only"
        )


def check_braces(root: Path) -> None:
    """Check, in a stage that DVC's own program runs, that it will be able to keep what comes of it.

    Raises:
        ConfigError: its bar of progress will fail.
    """
    if "DVC_STAGE" in os.environ and "KEYPIPE_RUN" not in os.environ and {"{", "}"} & set(str(root)):
        raise ConfigError(
            f"{str(root)!r}: DVC's own commands fail in a folder whose path has braces in it; use `keypipe run`, or"
            " rename the folder"
        )


def explain(error: OSError) -> str | None:
    """Return in one line what an error says of the machine: no permission, or no space; None of any other error."""
    if error.errno not in _OF_THE_MACHINE:
        return None
    places = " and ".join(str(name) for name in (error.filename, error.filename2) if name)
    return f"{places or 'the disk'}: {os.strerror(error.errno).lower()}"


def explain_end(error: BaseException, root: Path) -> str | None:
    """Return in one line what an error says of the machine, whatever library has raised it, or None.

    Args:
        error: with those that it came of.
        root: the workspace, whose disk is looked at.
    """
    chain = [error]
    while before := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(before)
    for seen in chain:
        if isinstance(seen, OSError) and (said := explain(seen) or _explain_vanished(seen, root)):
            return said
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if is_memory_end(error):
        return f"memory ended ({first}); end what else runs, or lower the stage's batch or imgsz in params.yaml"
    if shutil.disk_usage(root).free < _FULL_BYTES:
        return f"{root}: no space left on device ({first})"
    if any(phrase in str(seen).lower() for seen in chain for phrase in _NOT_WRITTEN):
        return f"a file could not be written ({first}); is there room on the disk, and under the limits of `ulimit -a`?"
    return None


def _explain_vanished(error: OSError, root: Path) -> str | None:
    """Say that a file of the raw data went while it was read: people work there at any time."""
    path = Path(os.fsdecode(error.filename)).absolute() if error.filename else Path()
    if error.errno != errno.ENOENT or not path.is_relative_to((root / RAW).absolute()):
        return None
    return f"{path.relative_to(root.absolute())}: is gone; somebody works on the raw data just now, so try again"


def is_memory_end(error: BaseException) -> bool:
    """Tell whether an error says that memory has ended, the machine's or the device's."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, Exception) and any(phrase in text for phrase in _NO_MEMORY)


def _list_written(root: Path, moved: Sequence[Path]) -> Iterator[Path]:
    for path in (*WRITTEN, *moved):
        place = root / path
        if place.exists():
            yield place
            if path in _WITH_FOLDERS and os.access(place, os.R_OK | os.X_OK):
                yield from (inner for inner in sorted(place.iterdir()) if inner.is_dir())


def _is_writable(path: Path) -> bool:
    return os.access(path, os.W_OK | (os.X_OK if path.is_dir() else 0))
