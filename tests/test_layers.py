"""flows -> tasks -> keypipe, one importer for each engine, no circles: the contracts in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.imports import ROOT


def test_imports_keep_the_contracts() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_library_imports_without_the_pipeline() -> None:
    """The library's own imports, followed for real, bring none of the engines."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "keypipe").rglob("*.py")
        if path.stem != "__init__"
    ]
    code = f"import sys, {', '.join(modules)}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert not set(output.split()) & {
        "prefect",
        "dvc",
        "mlflow",
        "ultralytics",
        "torch",
        "sklearn",
        "cv2",
        "onnxruntime",
    }


MANY = 10
"""Modules of a package; more of them have no one subject."""
TO_BE_CUT = {"keypipe/serving": 11, "tasks/workspace": 11}
"""Packages that have grown beyond it, and their number of modules, which may only shrink."""


def test_packages_stay_small() -> None:
    folders = {path.parent for top in ("keypipe", "tasks", "flows") for path in (ROOT / top).rglob("*.py")}
    found = {
        folder.relative_to(ROOT).as_posix(): sum(path.stem != "__init__" for path in folder.glob("*.py"))
        for folder in folders
    }
    assert {name: number for name, number in found.items() if number > TO_BE_CUT.get(name, MANY)} == {}
    assert [name for name in TO_BE_CUT if found.get(name, 0) <= MANY] == []
