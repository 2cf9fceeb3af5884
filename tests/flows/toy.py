"""A workspace of five tiny stages under real DVC, for tests of what runs them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.patience import PATIENCE

if TYPE_CHECKING:
    from flows.pipeline.run_result import RunResult

REPOSITORY = Path(__file__).resolve().parents[2]
STAGES = ["convert", "split", "train", "validate", "export"]

DVC_YAML = """\
stages:
  convert:
    cmd: python -m tasks.convert
    deps: [data/raw, tasks/convert.py]
    params: [convert]
    outs: [data/coco/keypoints.json, reports/convert]
  split:
    cmd: python -m tasks.split
    deps: [data/coco/keypoints.json, tasks/split.py]
    params: [seed, split]
    outs:
      - data/dataset/annotations
      - data/dataset/manifest.csv:
          cache: false
          persist: true
  train:
    cmd: python -m tasks.train
    deps: [data/dataset/annotations, tasks/train.py]
    params: [seed, train]
    outs: [models]
  validate:
    cmd: python -m tasks.validate
    deps: [data/dataset/annotations, models/best.pt, tasks/validate.py]
    params: [validate]
    metrics:
      - metrics/validate.json:
          cache: false
  export:
    cmd: python -m tasks.export
    deps: [models/best.pt, tasks/export.py]
    params: [export]
    outs: [exports]
"""

PARAMS = """\
# where every draw starts
seed: 42

schema:
  classes:
    cow:  # one class is enough
      keypoints: [nose, left_ear, right_ear]
      skeleton: []

convert:
  on_error: fail  # or quarantine

split:
  train: 0.7
  val: 0.15
  test: 0.15
  group_by: null

train:
  epochs: 40   # as many as you have patience for
  imgsz: 160

validate:
  sigma: 0.1

export: {}
"""

# What a stage does is told by the environment, which is no part of its fingerprint.
STAGE_PROGRAM = '''\
"""Toy stage: its outputs follow from its inputs, line by line."""
import hashlib, json, os, pathlib, signal, subprocess, sys, time
from keypipe.errors import DatasetError
from tasks.workspace.program import replacing, run_program, say

STAGE = "{stage}"
INPUTS = {inputs}
OUTPUTS = {outputs}


def run(root):
    note = os.environ.get("TOY_LOG")
    if note:
        with open(note, "a") as log:
            log.write(STAGE + "\\n")
    say(f"{{STAGE}}: at work")
    text = "\\n".join(read(root / place) for place in INPUTS)
    first, *others = OUTPUTS
    with replacing(root, pathlib.Path(first)) as temporary:
        temporary.write_text(text[: len(text) // 2])
        act(root)
        temporary.write_text(text)
    for place in others:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)


def read(place):
    if place.is_dir():
        return "\\n".join(read(path) for path in sorted(place.rglob("*.json")) + sorted(place.rglob("*.txt")))
    text = place.read_text()
    # convert keeps the labels alone, so that an edit may change nothing after it
    return json.loads(text)["label"] if STAGE == "convert" else text


def act(root):
    sleep = float(os.environ.get(f"TOY_SLEEP_{{STAGE.upper()}}", "0"))
    if sleep:
        child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({{sleep}})"], start_new_session=True)
        say(f"{{STAGE}}: sleeping 0%\\r{{STAGE}}: sleeping 1%\\r\\n\\n")
        (root / ".keypipe" / f"asleep-{{STAGE}}").write_text(str(os.getpid()))
        while child.poll() is None:
            if os.environ.get("TOY_TICKS"):
                say(f"{{STAGE}}: tick {{time.time()}}")
            time.sleep(0.2)
    if os.environ.get("TOY_FAULT") == STAGE:
        raise DatasetError("3 images are too few to split")
    if os.environ.get("TOY_BUG") == STAGE:
        raise ZeroDivisionError("a bug")
    crashes = os.environ.get(f"TOY_CRASH_{{STAGE.upper()}}")
    if crashes:
        counter = root / ".keypipe" / f"crashed-{{STAGE}}"
        count = int(counter.read_text()) if counter.exists() else 0
        if count < int(crashes):
            counter.write_text(str(count + 1))
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    run_program(STAGE, run)
    if os.environ.get("TOY_LINGER") == STAGE:  # ended, and DVC does not know it yet
        pathlib.Path(".keypipe/asleep-" + STAGE).write_text(str(os.getpid()))
        time.sleep(600)
'''

PROGRAMS: dict[str, tuple[list[str], list[str]]] = {
    "convert": (["data/raw"], ["data/coco/keypoints.json", "reports/convert/report.txt"]),
    "split": (["data/coco/keypoints.json"], ["data/dataset/manifest.csv", "data/dataset/annotations/train.txt"]),
    "train": (["data/dataset/annotations"], ["models/best.pt"]),
    "validate": (["data/dataset/annotations", "models/best.pt"], ["metrics/validate.json"]),
    "export": (["models/best.pt"], ["exports/best.onnx"]),
}


def make_workspace(root: Path) -> Path:
    """Write a workspace with four raw files; nothing is run yet."""
    for stage, (inputs, outputs) in PROGRAMS.items():
        program = STAGE_PROGRAM.format(stage=stage, inputs=inputs, outputs=outputs)
        _write(root / "tasks" / f"{stage}.py", program)
    _write(root / "tasks" / "__init__.py", "")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "tasks" / "workspace", root / "tasks" / "workspace", ignore=ignored)
    _write(root / "params.yaml", PARAMS)
    _write(root / "dvc.yaml", DVC_YAML)
    _write(root / ".dvcignore", ".keypipe\n")
    _write(root / ".gitignore", ".keypipe/\n__pycache__/\n/data/raw\n/data/coco\n/models\n/exports\n/reports\n")
    for number in range(4):
        write_raw(root, f"{number}.json", label=f"cow{number}")
    run(["git", "init", "-q", "-b", "main"], root)
    run(["git", "config", "user.email", "a@example.org"], root)
    run(["git", "config", "user.name", "a"], root)
    run([sys.executable, "-m", "dvc", "init", "-q"], root)
    run([sys.executable, "-m", "dvc", "config", "core.analytics", "false"], root)
    return root


def write_raw(root: Path, name: str, **content: object) -> None:
    """Write one raw file as labelme does: opened for writing in place."""
    path = root / "data" / "raw" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        json.dump(content, file)


def run(command: Sequence[str], root: Path, **env: str) -> str:
    """Run a command in the workspace, expect success and return what it prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "CI": "1", "DVC_NO_ANALYTICS": "1", **env}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def dvc(root: Path, *arguments: str) -> str:
    """Run a DVC command."""
    return run([sys.executable, "-m", "dvc", *arguments], root)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def read_artifacts(flow_run_id: str) -> dict[str, Any]:
    """Return what a run shows on its page, by key."""
    from uuid import UUID

    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    which = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(flow_run_id)]))
    with get_client(sync_client=True) as client:
        return {str(artifact.key): artifact for artifact in client.read_artifacts(artifact_filter=which)}


class Api:
    """Reads what the session's Prefect server knows."""

    def __init__(self, url: str) -> None:
        self.url = url

    def task_states(self, flow_run_id: str) -> dict[str, tuple[str, int]]:
        """Name of the last state and number of attempts of every task run, by name."""
        from flows.services import server

        server.settle(flow_run_id)
        runs = self._read("read_task_runs", flow_run_id)
        return {run.name: (run.state_name, run.run_count) for run in runs}

    def open_flow_runs(self, root: Path) -> list[Any]:
        """Flow runs of a workspace that the server holds to be going on."""
        runs = self._flow_runs(root)
        return [run for run in runs if run.state is not None and (run.state.is_running() or run.state.is_pending())]

    def _flow_runs(self, root: Path) -> list[Any]:
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            return [run for run in client.read_flow_runs(limit=200) if run.parameters.get("root") == str(root)]

    def open_runs(self, root: Path) -> list[str]:
        """Flow runs and task runs of a workspace that the server holds to be going on."""
        found = [run.name for run in self.open_flow_runs(root)]
        for run in self._flow_runs(root):
            found += [task.name for task in self._read("read_task_runs", str(run.id)) if not task.state.is_final()]
        return found

    def _read(self, method: str, flow_run_id: str) -> list[Any]:
        from uuid import UUID

        from prefect.client.orchestration import get_client
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

        only = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(str(flow_run_id))]))
        with get_client(sync_client=True) as client:
            return list(getattr(client, method)(flow_run_filter=only))


class Outcome:
    """What a run in this process came to."""

    def __init__(self, result: RunResult) -> None:
        self.result = result
        self.states = [stage.state for stage in result.stages]


class Toy:
    """A toy workspace and what can be done in it."""

    def __init__(self, root: Path, api: Api) -> None:
        self.root = root
        self.api = api
        self.log = root.parent / "stages.log"

    def flow(self, until: str | None = None, force: Sequence[str] = (), **env: str) -> Outcome:
        """Run the training flow in this process."""
        import msgspec

        from flows.pipeline.flow import training_flow
        from flows.pipeline.run_result import RunResult

        before = dict(os.environ)
        os.environ.update({"TOY_LOG": str(self.log), **env})
        try:
            state = training_flow(str(self.root), until, list(force), return_state=True)
        finally:
            os.environ.clear()
            os.environ.update(before)
        outcome = state.result(raise_on_failure=False)
        if isinstance(outcome, BaseException):
            raise outcome
        return Outcome(msgspec.convert(outcome, RunResult))

    def start(
        self, *arguments: str, own_server: bool = False, within: Sequence[str] = (), **env: str
    ) -> subprocess.Popen[str]:
        """Start ``keypipe`` in a process of its own, as from another terminal; ``within`` another command."""
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TOY_LOG": str(self.log), **env}
        environment.pop("PREFECT_SERVER_DATABASE_CONNECTION_URL", None)
        environment.pop("PREFECT_RESULTS_LOCAL_STORAGE_PATH", None)
        if own_server:
            environment.pop("PREFECT_API_URL", None)
        code = "import sys; from pathlib import Path; from flows.cli import main; main(Path(sys.argv.pop(1)))"
        return subprocess.Popen(
            [*within, sys.executable, "-P", "-c", code, str(self.root), *arguments],
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def keypipe(self, *arguments: str, code: int = 0, **env: str) -> str:
        """Run ``keypipe``, expect an exit code and return what it prints."""
        process = self.start(*arguments, **env)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, output
        return output

    def ran(self) -> list[str]:
        """Return the stages whose programs have started since the last call, in order."""
        lines = self.log.read_text().split() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines

    def processes(self) -> list[str]:
        """Return every living process that belongs to the workspace, by its folder or its command line."""
        found: list[str] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                mine = process.cwd() == str(self.root) or str(self.root) in " ".join(process.cmdline())
                if mine and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {' '.join(process.cmdline())}")
        return found

    def text(self, place: str) -> str:
        """Return the text of a file."""
        return (self.root / place).read_text()

    def edit(self, **content: object) -> None:
        """Change the first raw file."""
        write_raw(self.root, "0.json", **content)


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)
