"""What we write, labelme loads; what it saves, we read: with the labelme of this environment, and with the newest.

The newest has an environment of its own, since it wants an older onnxruntime: ``make labelme``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from keypipe.annotations.folder import read_folder
from keypipe.annotations.labelme import LABELME_VERSION, LabelmeOptions
from keypipe.demo.scene import SCHEMA, write_demo
from keypipe.keypoints.skeleton import parse_schema
from tests.imports import ROOT

OWN = ROOT / ".venv-labelme/bin/python"
PROGRAM = Path(__file__).with_name("labelme_files.py")


def read(folder: Path) -> dict[str, Any]:
    """Return every image as our reader has it, which must find no fault."""
    found = read_folder(folder, parse_schema(SCHEMA), LabelmeOptions(occluded_flag="occluded"), processes=1)
    assert (found.faults, found.unlabelled, dict(found.ignored)) == ([], [], {})
    return {file.source: file.image for file in found.files}


@pytest.mark.quick
@pytest.mark.parametrize("python", [Path(sys.executable), OWN], ids=["here", "own"])
def test_files_go_to_labelme_and_come_back(python: Path, tmp_path: Path) -> None:
    if not python.exists():
        pytest.skip("needs an environment of labelme's own: make labelme")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    images = write_demo(ours, n_images=12, seed=3, size_wh=(160, 120))
    command = [python, "-I", PROGRAM, ours, theirs]
    done = subprocess.run(command, capture_output=True, text=True)
    if "cannot open shared object file" in done.stderr:
        pytest.skip(f"labelme's Qt lacks a library of the system: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    version = done.stdout.strip()
    assert version.startswith("6.3." if version_of(python) < (3, 12) else "7.")
    for path in images:
        name = path.relative_to(ours)
        shutil.copy2(path, theirs / name)
        saved = json.loads((theirs / name).with_suffix(".json").read_text(encoding="utf-8"))
        assert saved["version"] == version
        written = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert saved | {"version": LABELME_VERSION} == written
    assert len(images) == 12
    assert read(theirs) == read(ours)


@pytest.mark.quick
def test_labelme_s_own_environment_lacks_nothing() -> None:
    if not OWN.exists():
        pytest.skip("needs an environment of labelme's own: make labelme")
    done = subprocess.run([sys.executable, "-m", "pip", "--python", OWN, "check"], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["No broken requirements found."]


def version_of(python: Path) -> tuple[int, ...]:
    code = "import sys; print(*sys.version_info[:2])"
    said = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout
    return tuple(map(int, said.split()))
