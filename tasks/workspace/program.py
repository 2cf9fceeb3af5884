"""What every stage program shares: where things are, whole results or none, and how it fails."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from keypipe.errors import ConfigError, Fault, FaultsError, PoseError
from keypipe.files.atomic import replacing_file
from tasks.workspace.access import check_braces, check_place, explain_end, name_user
from tasks.workspace.places import FAILURES, FINISHED
from tasks.workspace.scratch import remove, remove_abandoned, scratch_path

USER_ERROR = 2
"""Exit code for a fault of the input; anything else that fails is a bug."""


FINGERPRINT_VARIABLE = "KEYPIPE_FINGERPRINT"
"""Environment variable that tells a stage what its outputs follow from."""


class Failure(msgspec.Struct):
    """What a failed stage leaves behind for whoever started it.

    Attributes:
        stage: name of the stage.
        message: what the user was told.
        faults: the single faults, where the input has several.
    """

    stage: str
    message: str
    faults: list[Fault] = []


def failure_path(root: Path, stage: str) -> Path:
    """Return the file that tells a fault of the input from a crash: DVC passes no exit code on."""
    return root / FAILURES / f"{stage}.json"


def read_failure(root: Path, stage: str) -> Failure | None:
    """Return what the stage left when its input was at fault, else None."""
    path = failure_path(root, stage)
    return msgspec.json.decode(path.read_bytes(), type=Failure) if path.exists() else None


def finished_path(root: Path, stage: str) -> Path:
    """Return the file that says that a stage has ended well, and from what its outputs follow."""
    return root / FINISHED / stage


def run_program(stage: str, run: Callable[[Path], None]) -> None:
    """Run a stage as a program in the current folder and end the process.

    A ``PoseError`` becomes one clear message on stderr, a failure file and exit code 2.

    Args:
        stage: its name.
        run: does the work; gets the workspace.
    """
    root = Path.cwd()
    name_user()
    try:
        failure_path(root, stage).unlink(missing_ok=True)
        finished_path(root, stage).unlink(missing_ok=True)
        check_place(root)
        check_braces(root)
        remove_abandoned(root)
        _run(root, run)
    except PoseError as error:
        faults = error.faults if isinstance(error, FaultsError) else []
        with suppress(OSError):
            write_json(failure_path(root, stage), Failure(stage, str(error), faults))
        print(f"{stage}: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the program's output
        if "DVC_STAGE" in os.environ and "KEYPIPE_RUN" not in os.environ:  # DVC has removed the outputs
            hint = f"{stage}: the last good outputs come back with `dvc checkout {stage}`"
            print(hint, file=sys.stderr, flush=True)  # noqa: T201
        sys.exit(USER_ERROR)
    if fingerprint := os.environ.get(FINGERPRINT_VARIABLE):
        with replacing_file(finished_path(root, stage)) as note:
            note.write_text(fingerprint, encoding="ascii")


def _run(root: Path, run: Callable[[Path], None]) -> None:
    """Run a stage; what it lacks of the machine, space, memory or permission, is no bug of its.

    Raises:
        PoseError: something is lacking, or what the stage raises.
    """
    try:
        run(root)
    except PoseError:
        raise
    except Exception as error:
        if said := explain_end(error, root):
            raise ConfigError(said) from error
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON with sorted keys, whole or not at all; its folder is made."""
    text = msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2)
    with replacing_file(path) as temporary:
        temporary.write_bytes(text + b"\n")


@contextmanager
def replacing(root: Path, output: Path) -> Iterator[Path]:
    """Yield a scratch path that takes the place of an output when the block ends without an error.

    Works for files and folders; on an error the output stays as it was. The scratch path lies in the same
    workspace, so that moving it is one rename.

    Args:
        root: the workspace.
        output: the output, relative to it.
    """
    scratch = scratch_path(root, "-".join(output.parts))
    aside = scratch_path(root, f"{scratch.name}.old")
    yield scratch
    path = root / output
    path.parent.mkdir(parents=True, exist_ok=True)
    _put(scratch, path, aside)
    remove(aside)


def _put(new: Path, path: Path, aside: Path) -> None:
    """Move a file or folder into place; another process, such as a second doctor, may be doing the same."""
    while True:
        if path.is_dir():
            remove(aside)
            with suppress(FileNotFoundError):
                path.rename(aside)  # a folder cannot be renamed onto a full one
        try:
            new.rename(path)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
        else:
            return


def format_seconds(seconds: float) -> str:
    """Format a duration roughly: ``0.8 s``, ``12 s``, ``7 min``, ``3.5 h``."""
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


def say(message: str) -> None:
    """Print one line of progress; whoever started the stage streams it into its log."""
    print(message, flush=True)  # noqa: T201 - the program's output
