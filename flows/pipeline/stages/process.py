"""A stage reproduced by DVC in a process of its own, whose output is passed on line by line; needs no Prefect."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from flows.pipeline.stages.gpus import holding_gpus
from flows.system.process import Tree
from keypipe.errors import PoseError
from keypipe.printable import to_printable
from tasks.versions.raw import RawVersion
from tasks.versions.repository import BusyError
from tasks.versions.stages.repro import BUSY, FAILED, Outcome, repro_command
from tasks.workspace.program import read_failure


def run_stage_process(
    root: Path,
    stage: str,
    env: Mapping[str, str],
    say: Callable[[str], None],
    *,
    force: bool = False,
    raw: RawVersion | None = None,
    started: Callable[[Tree], None] = lambda _: None,
    poll: Callable[[], None] = lambda: None,
) -> Outcome:
    """Reproduce a stage and return what it came to; the process and all that it started end with this call.

    It waits for the GPUs that the stage is going to use, where another run of this machine holds them.

    Args:
        root: the workspace.
        stage: its name.
        env: environment of the process.
        say: gets the lines that it prints.
        force: run it even when nothing changed.
        raw: the raw data, where they have just been versioned.
        started: gets the process once it runs.
        poll: called often meanwhile; may raise to give up.

    Raises:
        BusyError: another DVC command holds the workspace.
    """
    with holding_gpus(root, stage, env, say, poll), tempfile.TemporaryDirectory(prefix="keypipe-") as folder:
        path = Path(folder) / "outcome.json"
        tree = Tree(repro_command(stage, path, force=force, raw=raw), cwd=root, env=dict(env))
        started(tree)
        try:
            for line in tree.lines(poll):
                say(to_printable(line))
            code = tree.wait()
        finally:
            tree.end()
        if not path.exists():
            return Outcome("failed", code, f"DVC ended with exit code {code}")
        outcome = msgspec.json.decode(path.read_bytes(), type=Outcome)
    if outcome.did == BUSY:
        raise BusyError(outcome.message)
    return outcome


def raise_failure(root: Path, stage: str, outcome: Outcome) -> None:
    """Raise what a stage failed of: a ``PoseError`` where it was its input, else an error of its own.

    Does nothing where it did not fail.
    """
    if outcome.did != FAILED:
        return
    failure = read_failure(root, stage)
    if failure is not None:
        raise PoseError(f"{failure.stage}: {failure.message}")
    raise RuntimeError(f"{stage}: {outcome.message}")
