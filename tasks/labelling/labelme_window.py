"""labelme, opened on a list of images with the workspace's labels and flags."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from keypipe.annotations.labelme import LabelmeOptions
from keypipe.annotations.machine import CONFIRMED
from keypipe.files.atomic import write_text
from keypipe.keypoints.skeleton import Schema
from tasks.workspace.places import RAW

CONFIG = "labelme.yaml"


class Window(msgspec.Struct, frozen=True):
    """How labelme is opened.

    Attributes:
        command: what to run, in the workspace.
        installed: whether labelme is there.
        display: whether there is a screen to open it on.
    """

    command: list[str]
    installed: bool
    display: bool

    def __str__(self) -> str:
        return shlex.join(self.command)


def prepare_window(root: Path, folder: Path, images: Sequence[str], schema: Schema, options: LabelmeOptions) -> Window:
    """Write labelme's configuration for a list of images.

    labelme knows no list of files; its search field takes a regular expression, which its configuration can fill in.
    What stands in the user's own ``~/.labelmerc`` stays in force.

    Args:
        root: the workspace.
        folder: where the configuration goes, relative to the workspace.
        images: relative to ``data/raw``.
        schema: whose names are the labels.
        options: how occluded keypoints are marked.
    """
    own = read_own_config(Path("~/.labelmerc").expanduser())
    write_text(root / folder / CONFIG, yaml.safe_dump(own | to_config(images, schema, options), allow_unicode=True))
    program = find_labelme(root)
    command = [str(program or "labelme"), RAW.as_posix(), "--config", (folder / CONFIG).as_posix()]
    return Window(command, program is not None, has_display())


def to_config(images: Sequence[str], schema: Schema, options: LabelmeOptions) -> dict[str, Any]:
    """Return labelme's settings: its labels in the schema's order, its flags, and the list as a search."""
    labels = list(dict.fromkeys([*schema.class_names, *schema.slots]))
    if not options.occluded_flag and options.occluded_suffix:
        labels += [f"{name}{options.occluded_suffix}" for name in schema.slots]
    points = "|".join(re.escape(name) for name in schema.slots)
    settings: dict[str, Any] = {
        "labels": labels,
        "sort_labels": False,
        "flags": [CONFIRMED],
        "file_search": to_search(images),
    }
    if options.occluded_flag:
        settings["label_flags"] = {f"^({points})$": [options.occluded_flag]}
    return settings


def to_search(images: Sequence[str]) -> str:
    """Return a regular expression that the paths of these images match, with either slash."""
    names = (r"[\\/]".join(re.escape(part) for part in name.split("/")) for name in images)
    return rf"(^|[\\/])({'|'.join(names)})$"


def read_own_config(path: Path) -> dict[str, Any]:
    """Read the user's own settings of labelme; none where the file is absent or damaged, as labelme itself tells."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def find_labelme(root: Path) -> Path | None:
    """Find labelme: what `make labelme` installed, else on the path, else beside this Python."""
    name = "labelme.exe" if os.name == "nt" else "labelme"
    places = [root / ".venv-labelme" / ("Scripts" if os.name == "nt" else "bin") / name]
    on_path = shutil.which("labelme")
    places += [Path(on_path)] if on_path else []
    places.append(Path(sys.executable).with_name(name))
    return next((place for place in places if place.is_file()), None)


def has_display() -> bool:
    """Tell whether windows can be opened."""
    return os.name == "nt" or sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def open_window(root: Path, window: Window) -> int:
    """Open labelme and wait until it is closed; return its exit code."""
    return subprocess.run(window.command, cwd=root, check=False).returncode
