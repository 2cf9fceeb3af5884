"""A workspace of five tiny stages under real DVC, for tests of what runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

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

# What a stage does is told by the environment, which is no part of its fingerprint.
STAGE_PROGRAM = '''\
"""Toy stage: its outputs follow from its inputs, line by line."""
import hashlib, json, os, pathlib, signal, subprocess, sys, time
from keypipe.errors import DatasetError
from tasks.stage import replacing, run_program, say

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
    sleep = float(os.environ.get(f"TOY_SLEEP_{{STAGE}}", "0"))
    if sleep:
        child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({{sleep}})"], start_new_session=True)
        say(f"{{STAGE}}: sleeping 0%\\r{{STAGE}}: sleeping 1%\\r\\n\\n")
        (root / ".keypipe" / f"asleep-{{STAGE}}").write_text(str(os.getpid()))
        child.wait()
    if os.environ.get("TOY_FAULT") == STAGE:
        raise DatasetError("3 images are too few to split")
    if os.environ.get("TOY_BUG") == STAGE:
        raise ZeroDivisionError("a bug")
    crashes = os.environ.get(f"TOY_CRASH_{{STAGE}}")
    if crashes:
        counter = root / ".keypipe" / f"crashed-{{STAGE}}"
        count = int(counter.read_text()) if counter.exists() else 0
        if count < int(crashes):
            counter.write_text(str(count + 1))
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    run_program(STAGE, run)
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
    shutil.copy(REPOSITORY / "tasks" / "stage.py", root / "tasks" / "stage.py")
    shutil.copy(REPOSITORY / "params.yaml", root / "params.yaml")
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
