"""Packages offer public names, load nothing until one is asked for, and the project itself goes past them."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.imports import PACKAGES, ROOT, imported_names

OFFERING = sorted(path.parent.name for path in (ROOT / "keypipe").glob("*/__init__.py"))


def run(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def typed_names(package: str) -> dict[str, str]:
    """Return name -> module as type checkers see a package."""
    tree = ast.parse((ROOT / "keypipe" / package / "__init__.py").read_text(encoding="utf-8"))
    imports = [
        node
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
    ]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def test_importing_every_package_loads_nothing_but_the_mechanism() -> None:
    packages = ", ".join(f"keypipe.{name}" for name in OFFERING)
    code = f"import sys; before = set(sys.modules); import {packages}; print(*sorted(set(sys.modules) - before))"
    loaded = {name for name in run(code).split() if name.partition(".")[0] not in sys.stdlib_module_names}
    assert loaded == {"keypipe", "keypipe.lazy", *(f"keypipe.{name}" for name in OFFERING)}


def test_a_name_loads_its_module_and_no_engine() -> None:
    code = "import sys; from keypipe.evaluation import compute_oks; print(*sorted(sys.modules))"
    loaded = set(run(code).split())
    assert "keypipe.evaluation.oks" in loaded
    assert not loaded & {
        "keypipe.evaluation.bootstrap",
        "keypipe.evaluation.sigmas",
        "scipy",
        "cv2",
        "faster_coco_eval",
    }


@pytest.mark.parametrize("package", OFFERING)
def test_public_names_resolve_and_are_what_type_checkers_see(package: str) -> None:
    module = importlib.import_module(f"keypipe.{package}")
    typed = typed_names(package)
    assert typed
    assert sorted(module.__all__) == sorted(typed)
    assert set(typed) <= set(dir(module))
    for name, place in typed.items():
        assert getattr(module, name) is getattr(importlib.import_module(place), name), name
    with pytest.raises(AttributeError, match="no_such_name"):
        module.no_such_name  # noqa: B018 - asked for on purpose


@pytest.mark.parametrize("package", OFFERING)
def test_a_public_name_is_private_nowhere_and_no_module_of_its_package(package: str) -> None:
    modules = {path.stem for path in (ROOT / "keypipe" / package).iterdir()}
    names = set(typed_names(package))
    assert not names & modules
    assert not [name for name in names if name.startswith("_")]


def test_the_project_imports_from_modules_so_that_deps_see_them() -> None:
    """A name taken from a package would hide from `deps` the module that it comes from."""
    for path in (path for top in PACKAGES for path in (ROOT / top).rglob("*.py")):
        for name in imported_names(path):
            parent, _, last = name.rpartition(".")
            folder = ROOT / parent.replace(".", "/")
            if parent and name.partition(".")[0] in PACKAGES and folder.is_dir():
                there = _is_module(folder / last)
                assert there or last == "__version__", f"{path.relative_to(ROOT)}: {name}"


def _is_module(path: Path) -> bool:
    return path.is_dir() or path.with_suffix(".py").is_file()
