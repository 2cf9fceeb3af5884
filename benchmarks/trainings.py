"""The same training twice: by keypipe's train stage, and by plain ``yolo pose train``, on the same images."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from ruamel.yaml import YAML

from benchmarks.beetles import SCHEMA as BEETLE_SCHEMA
from benchmarks.beetles import write_beetles
from benchmarks.workspace import ROOT, environment, make_workspace, stage
from keypipe.demo.scene import SCHEMA as DEMO_SCHEMA
from keypipe.demo.scene import write_demo

SHARED_DATA = Path(os.environ.get("KEYPIPE_SHARED_DATA", ROOT.parent / "shared" / "data"))
_SETSQUARE = {"classes": {"sjb_rect": {"keypoints": ["angle_30", "angle_60", "angle_90"], "pairs": []}}}
_TRANSISTOR = {"keypoints": ["Drain", "Source", "Gate"], "skeleton": [["Drain", "Source"], ["Source", "Gate"]]}


class Protocol(NamedTuple):
    """Images, their schema, and arguments that both trainings get.

    Attributes:
        schema: of ``params.yaml``.
        folder: labelme files below ``SHARED_DATA``; None for drawings.
        arguments: Ultralytics' train arguments.
        draw: writes the drawings to a folder.
    """

    schema: dict[str, Any]
    folder: str | None
    arguments: dict[str, Any]
    draw: Callable[[Path], Any] = write_demo

    @property
    def images(self) -> str:
        """A name that protocols of the same images share."""
        return (self.folder or self.draw.__name__.removeprefix("write_")).partition("/")[0]

    @property
    def is_here(self) -> bool:
        """Whether the annotations are at hand."""
        return self.folder is None or (SHARED_DATA / self.folder).exists()


COMMON: dict[str, Any] = {
    "batch": 16,
    "nbs": 16,
    "optimizer": "AdamW",
    "lr0": 0.003,
    "warmup_epochs": 2,
    "mosaic": 0.0,
    "patience": 0,
    "fliplr": 0.0,
}
PROTOCOLS = {
    "setsquare": Protocol(
        _SETSQUARE,
        "setsquare/labelme",
        {**COMMON, "epochs": 60, "imgsz": 128},
    ),
    "setsquare256": Protocol(
        _SETSQUARE,
        "setsquare/labelme",
        {**COMMON, "epochs": 60, "imgsz": 256},
    ),
    "mos": Protocol(
        {"classes": {"nmos": _TRANSISTOR, "pmos": _TRANSISTOR}},
        "circuit_mos/labelme",
        {**COMMON, "epochs": 30, "imgsz": 256},
    ),
    "beetles": Protocol(
        dict(BEETLE_SCHEMA), None, {**COMMON, "epochs": 40, "imgsz": 160, "fliplr": 0.5}, write_beetles
    ),
    "demo": Protocol(dict(DEMO_SCHEMA), None, {**COMMON, "epochs": 40, "imgsz": 160, "fliplr": 0.5}),
}
"""The demo's protocol is that of ``params.yaml`` with fewer epochs."""


def prepare(root: Path, protocol: Protocol, split: Mapping[str, Any] | None = None) -> None:
    """Make a workspace with annotations, converted and split: 70 / 10 / 20, unless told otherwise."""
    make_workspace(root, protocol.schema)
    if protocol.folder is None:
        protocol.draw(root / "data/raw")
    else:
        shutil.copytree(SHARED_DATA / protocol.folder, root / "data/raw")
    values: dict[str, Any] = {
        "split": dict(split or {"train": 0.7, "val": 0.1, "test": 0.2}),
        "convert": {"on_error": "quarantine"},
        "doctor": {"fail_on": "never"},
    }
    edit_params(root, values)
    (root / "local.yaml").write_text("device: cpu\n")
    for name in ("convert", "split"):
        run_quietly(stage(name), root, environment())


def edit_params(root: Path, values: dict[str, dict[str, Any]]) -> None:
    """Set values in sections of a workspace's ``params.yaml``."""
    ruamel = YAML()
    document = ruamel.load(root / "params.yaml")
    for section, entries in values.items():
        document[section].update(entries)
    ruamel.dump(document, root / "params.yaml")


def set_training(root: Path, seed: int, arguments: dict[str, Any], **own: Any) -> None:
    """Let ``train:`` hold these arguments, and of keypipe's own parameters the defaults unless given."""
    ruamel = YAML()
    document = ruamel.load(root / "params.yaml")
    shipped = ruamel.load(ROOT / "params.yaml")["train"]
    document["seed"] = seed
    document["train"] = {"model": "yolov8n-pose.yaml", "loss_sigma": shipped["loss_sigma"], **arguments, **own}
    ruamel.dump(document, root / "params.yaml")


def plain_data(root: Path) -> Path:
    """Write the ``data.yaml`` that a user of plain Ultralytics has: without sigmas, so that its own default holds."""
    data = yaml.safe_load((root / "data/yolo/data.yaml").read_text(encoding="utf-8"))
    data.pop("kpt_oks_sigmas")
    data["path"] = str((root / "data/yolo").resolve())
    path = root / "plain.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def plain_command(root: Path, seed: int, arguments: dict[str, Any]) -> list[str]:
    """Return the command of plain Ultralytics; its weights land in ``plain/run/weights`` of the workspace."""
    given = {
        **arguments,
        "seed": seed,
        "data": plain_data(root),
        "model": "yolov8n-pose.yaml",
        "device": "cpu",
        "plots": False,
        "project": (root / "plain").resolve(),
        "name": "run",
        "exist_ok": True,
    }
    program = Path(sys.executable).with_name("yolo")
    return [str(program), "pose", "train", *(f"{key}={value}" for key, value in given.items())]


def plain_environment(root: Path) -> dict[str, str]:
    """Return an environment in which plain Ultralytics asks no network and tells no server."""
    folder = root / ".ultralytics"
    folder.mkdir(exist_ok=True)
    return environment() | {"YOLO_CONFIG_DIR": str(folder), "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}


def run_quietly(command: list[str], cwd: Path, env: dict[str, str]) -> str:
    """Run a command that must succeed, and return what it printed."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout
