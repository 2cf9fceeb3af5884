"""A program that reproduces one stage, as ``dvc repro -s STAGE`` does, and leaves an outcome file."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any, Literal

import msgspec

from tasks.versions.raw import RawVersion, hash_raw
from tasks.versions.repository import opened, relative, written_whole
from tasks.versions.stages.state import held_fingerprint, hold_deps
from tasks.workspace.places import LOCK, RAW
from tasks.workspace.program import FINGERPRINT_VARIABLE, finished_path

BUSY = "busy"
FAILED = "failed"

_CODE = Path(__file__).parents[3]
_START = """\
import sys
code, sys.argv[:2] = sys.argv[1], ["dvc repro by keypipe"]
sys.path.insert(0, code)
from tasks.versions.stages import repro
repro.main()
"""
"""Finds this code and not the workspace's, and leaves no trace in the environment, which the stage inherits."""


class Outcome(msgspec.Struct):
    """What reproducing a stage came to.

    Attributes:
        did: ``ran``, ``restored`` (brought back from the run cache), ``nothing`` (up to date), ``busy`` (another
            DVC command holds the lock) or ``failed``.
        status: exit status of the stage's command where it failed; negative or above 128 for a signal.
        message: what DVC said when it failed.
    """

    did: Literal["ran", "restored", "nothing", "busy", "failed"]
    status: int | None = None
    message: str = ""


def repro_command(stage: str, outcome: Path, *, force: bool = False, raw: RawVersion | None = None) -> list[str]:
    """Return the command that reproduces a stage of the folder in which it is run.

    Args:
        stage: its name.
        outcome: gets an ``Outcome`` as JSON.
        force: run it even when nothing changed.
        raw: the raw data, where they have just been versioned.
    """
    command = [sys.executable, "-P", "-c", _START, str(_CODE), stage, "--outcome", str(outcome)]
    command += ["--force"] if force else []
    return command + (["--raw", msgspec.json.encode(raw).decode()] if raw is not None else [])


def main() -> None:
    """Reproduce one stage of the current folder and write what it came to."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("stage")
    parser.add_argument("--force", action="store_true", help="run it even when nothing changed")
    parser.add_argument("--outcome", type=Path, required=True, help="gets the outcome as JSON")
    parser.add_argument("--raw", help="the raw data as they have just been versioned, as JSON")
    arguments = parser.parse_args()
    raw = msgspec.json.decode(arguments.raw, type=RawVersion) if arguments.raw else None
    outcome = reproduce(Path.cwd(), arguments.stage, force=arguments.force, raw=raw)
    arguments.outcome.write_bytes(msgspec.json.encode(outcome))
    sys.exit(0 if outcome.did not in {BUSY, FAILED} else 1)


def reproduce(root: Path, stage: str, *, force: bool = False, raw: RawVersion | None = None) -> Outcome:
    """Reproduce one stage in this process, as ``dvc repro -s STAGE`` does, on its deps as they are now.

    Args:
        root: the workspace.
        stage: its name.
        force: run it even when nothing changed.
        raw: the raw data, where they have just been versioned.
    """
    from dvc.exceptions import DvcException, ReproductionError
    from dvc.lock import LockError

    started = _StartedWatch()
    logging.getLogger("dvc.stage.run").addHandler(started)
    logging.getLogger("dvc.dvcfile").setLevel(logging.WARNING)  # it tells of every write to dvc.lock

    with chdir(root), opened(root, quiet=False) as repo:  # the path of dvc.yaml may be one that DVC cannot take apart
        repo.scm_context.quiet = True

        def run(loaded: Any, **options: Any) -> Any:
            if hold_deps(loaded, raw):
                os.environ[FINGERPRINT_VARIABLE] = held_fingerprint(loaded)
                _refuse_edited_raw(repo, root, loaded, started)
            done = loaded.reproduce(**options)
            if done:
                with written_whole(root, LOCK):
                    done.dump(update_pipeline=False)
            return done

        try:
            done = repo.reproduce([stage], single_item=True, force=force, repro_fn=run)
        except ReproductionError as error:
            cause = error.__cause__
            if isinstance(cause, LockError):
                return Outcome("busy", message=str(cause))
            return Outcome("failed", _exit_status(cause), str(cause or error))
        except LockError as error:
            return Outcome("busy", message=str(error))
        except DvcException as error:
            return Outcome("failed", None, str(error))
    finished_path(root, stage).unlink(missing_ok=True)  # dvc.lock has it
    if not done:
        return Outcome("nothing")
    return Outcome("ran" if started.seen else "restored")


def _refuse_edited_raw(repo: Any, root: Path, stage: Any, started: _StartedWatch) -> None:
    """Let a stage fail that may have read other raw data than it is held to: DVC would keep its result as theirs."""
    from dvc.exceptions import DvcException

    held = [dep.get_hash().value for dep in stage.deps if relative(root, dep) == RAW.as_posix()]
    save_deps = stage.save_deps

    def check_and_save(*arguments: Any, **options: Any) -> Any:
        if started.seen and held and hash_raw(repo, root) != held[0]:
            raise DvcException(f"{RAW} was edited while {stage.addressing} read it; run again")
        return save_deps(*arguments, **options)

    stage.save_deps = check_and_save


def _exit_status(error: BaseException | None) -> int | None:
    """Return the exit status of a stage's command, which DVC tells in words alone."""
    from dvc.stage.exceptions import StageCmdFailedError

    found = re.search(r"exited with (-?\d+)$", str(error)) if isinstance(error, StageCmdFailedError) else None
    return int(found[1]) if found else None


class _StartedWatch(logging.Handler):
    """Sees whether DVC really ran the command, or found its result in the run cache."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = False

    def emit(self, record: logging.LogRecord) -> None:
        self.seen = self.seen or record.getMessage().startswith("Running stage ")


if __name__ == "__main__":
    main()
