"""How soon commands answer that have nothing to do: `keypipe run`, `status` and `--help` beside `dvc repro`.

    python -m benchmarks.answers [--times 10] [--workspace FOLDER]

In turn in one workspace in which everything has run: FOLDER, or the demo with one epoch of training, which takes a
minute or two to make. `keypipe run` is measured without a Prefect server and with one; there the process that tells
Prefect of the run afterwards has ended before the next command starts.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from benchmarks.timing import Run, median, ratios, run
from benchmarks.workspace import environment
from flows.pipeline.unchanged.afterwards import list_untold
from flows.services.server import configure, running_server
from tests.workspace import make_workspace

DVC = [sys.executable, "-m", "dvc", "repro"]
KEYPIPE = [sys.executable, "-m", "keypipe"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--workspace", type=Path, help="one in which everything has run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        without = {name: value for name, value in environment().items() if not name.startswith("PREFECT")}
        without["PREFECT_HOME"] = temporary
        root = options.workspace or make_workspace(Path(temporary) / "workspace", **{"train.epochs": 1})
        for _ in range(2):  # a second time for what only a run with nothing to do writes down
            run([*KEYPIPE, "run"], root, without)
        configure(Path(temporary))
        address = stack.enter_context(running_server(Path(temporary), temporary=True))
        measured = measure(root.resolve(), without, without | {"PREFECT_API_URL": address}, options.times)
    show(measured, options.times)


def measure(root: Path, without: Mapping[str, str], with_server: Mapping[str, str], times: int) -> dict[str, list[Run]]:
    """Run every command in turn, some times.

    Args:
        root: a workspace in which everything has run.
        without: environment without a Prefect server.
        with_server: one that names a server.
        times: how often.
    """
    measured: dict[str, list[Run]] = {}
    for _ in range(times):
        for name, command, env in (
            ("dvc repro", DVC, without),
            ("keypipe run", [*KEYPIPE, "run"], without),
            ("keypipe run, with a server", [*KEYPIPE, "run"], with_server),
            ("keypipe status", [*KEYPIPE, "status"], without),
            ("keypipe --help", [*KEYPIPE, "--help"], without),
        ):
            measured.setdefault(name, []).append(run(command, root, env))
            while list_untold(root):
                time.sleep(0.1)
    return measured


def show(measured: Mapping[str, list[Run]], times: int) -> None:
    """Print medians, and ratios of pairs of runs."""
    print(f"{times} times in turn; median, and ratio to the `dvc repro` before it, median (range)")
    for name, runs in measured.items():
        print(f"  {name:28}{median(runs):7.2f} s   {ratios(runs, measured['dvc repro'])}")
    print("aims: keypipe run 1.5 times dvc repro, keypipe status 0.5 s, keypipe --help 0.15 s")


if __name__ == "__main__":
    os.environ.setdefault("DVC_NO_ANALYTICS", "true")
    main()
