"""What one more image costs, and what nothing new costs: the stage programs, `keypipe run`, and DVC alone.

    python -m benchmarks.updates [--images 10000] [--times 3]

Three workspaces hold the same generated annotations: one for the stage programs, one for `keypipe run --until split`
with a Prefect server up, and one in which DVC runs stages of the same deps and outs whose commands do nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from ruamel.yaml import YAML

from benchmarks.data import SCHEMA, write_dataset
from benchmarks.timing import Run, median, run
from benchmarks.workspace import environment, make_workspace, set_aside, stage
from flows.services.server import configure, running_server


class Workspaces:
    """The same annotations three times; an image can be added to all."""

    def __init__(self, folder: Path, n_images: int) -> None:
        self.stages = make_workspace(folder / "stages", SCHEMA)
        self.keypipe = make_workspace(folder / "keypipe", SCHEMA)
        self.dvc = make_workspace(folder / "dvc", SCHEMA)
        self.n_images = 0
        self.add(n_images)

    def add(self, n_images: int = 1) -> None:
        """Add images."""
        for root in (self.stages, self.keypipe, self.dvc):
            write_dataset(root / "data/raw", n_images, embed=False, start=self.n_images)
        self.n_images += n_images


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        spaces = Workspaces(Path(temporary), options.images)
        first = _run_stages(spaces.stages)
        # What the others start from is made by the same programs, so that only the additions are measured.
        configure(spaces.keypipe)
        address = stack.enter_context(running_server(spaces.keypipe, temporary=True))
        env = environment() | {"PREFECT_API_URL": address}
        run(_keypipe(), spaces.keypipe, env)
        _make_idle(spaces.dvc)
        _run_stages(spaces.dvc)
        run(_shell("dvc add --quiet data/raw && dvc repro --quiet split"), spaces.dvc, env)

        measured: dict[str, list[Run]] = {}

        def note(name: str, measure: Callable[[], Run]) -> None:
            measured.setdefault(name, []).append(measure())

        for _ in range(options.times):
            set_aside(spaces.stages, Path(temporary) / "aside")
            note("first", lambda: _run_stages(spaces.stages))
            spaces.add()
            note("one more: stage programs", lambda: _run_stages(spaces.stages))
            note("one more: keypipe run", lambda: run(_keypipe(), spaces.keypipe, env))
            note("one more: DVC, empty commands", lambda: run(_shell(_DVC_ALONE), spaces.dvc, env))
            note("unchanged: keypipe run", lambda: run(_keypipe(), spaces.keypipe, env))
            note("unchanged: dvc status", lambda: run([sys.executable, "-m", "dvc", "status"], spaces.keypipe, env))
            note("import prefect", lambda: run([sys.executable, "-c", "import prefect"], spaces.keypipe, env))
    print(f"{options.images} images, {options.times} times in turn; the very first run {first.seconds:.2f} s")
    seconds = {name: median(runs) for name, runs in measured.items()}
    for name, value in seconds.items():
        print(f"  {name:32}{value:8.2f} s")
    share = _pairs(measured, lambda s: s["one more: stage programs"] / s["first"])
    print(f"one more image, share of the first time: {share} (target 0.25)")
    added = _pairs(
        measured,
        lambda s: (
            (s["one more: keypipe run"] - s["one more: stage programs"] - s["import prefect"])
            / s["one more: DVC, empty commands"]
        ),
    )
    print(f"keypipe run adds to the stage programs and the import, ratio to DVC alone: {added} (target 1.3)")
    idle = _pairs(measured, lambda s: s["unchanged: keypipe run"] / s["unchanged: dvc status"])
    print(f"unchanged keypipe run, ratio to dvc status: {idle} (target 1.5)")


_DVC_ALONE = "dvc add --quiet data/raw && dvc repro --quiet split"


def _run_stages(root: Path) -> Run:
    parts = [run(stage(name), root, environment()) for name in ("convert", "split")]
    return Run(sum(p.seconds for p in parts), max(p.largest_mb for p in parts), max(p.total_mb for p in parts))


def _keypipe() -> list[str]:
    return [sys.executable, "-m", "keypipe", "run", "--until", "split"]


def _shell(command: str) -> list[str]:
    return ["sh", "-c", command.replace("dvc ", f"{sys.executable} -m dvc ")]


def _make_idle(root: Path) -> None:
    """Let the stages' commands do nothing and leave their outs where they are."""
    yaml = YAML()
    path = root / "dvc.yaml"
    document = yaml.load(path)
    for entry in document["stages"].values():
        entry["cmd"] = "true"
        for kind in ("outs", "metrics"):
            outs = entry.get(kind, [])
            entry[kind] = [
                {out: {"persist": True}}
                if isinstance(out, str)
                else {n: {**o, "persist": True} for n, o in out.items()}
                for out in outs
            ]
    yaml.dump(document, path)


def _pairs(measured: dict[str, list[Run]], value: Callable[[dict[str, float]], float]) -> str:
    values = sorted(
        value({name: runs[index].seconds for name, runs in measured.items()})
        for index in range(min(map(len, measured.values())))
    )
    return f"{statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})"


if __name__ == "__main__":
    os.environ.setdefault("DVC_NO_ANALYTICS", "true")
    main()
