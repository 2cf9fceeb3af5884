"""Which project modules a module imports, directly and through others; read from the source, nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("keypipe", "tasks", "flows")

DRAWS = ("keypipe/drawing", "keypipe/report", "tasks/pages")
"""What draws pictures and writes pages; part of what a stage makes where its outputs hold pages."""
RECORDS = ("tasks/tracking", "tasks/versions", "tasks/progress.py")
"""What records a run and says how far it is; part of no stage's outputs."""
TELLS = (*DRAWS, *RECORDS)


@cache
def imported_names(path: Path) -> frozenset[str]:
    """Return the dotted names of everything that a module imports, at any level."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return frozenset(names)


@cache
def imported_files(path: Path) -> frozenset[Path]:
    """Return the project files that a module imports directly.

    Packages' ``__init__`` are left out: they hold nothing but names for users, which type checkers follow and Python
    loads when one is asked for. The project's own code goes past them (tests/test_lazy.py).
    """
    files: set[Path] = set()
    for name in imported_names(path):
        if name.partition(".")[0] in PACKAGES:
            file = (ROOT / name.replace(".", "/")).with_suffix(".py")
            if file.exists():
                files.add(file)
    return frozenset(files)


def names_from_packages(path: Path) -> set[str]:
    """Return what a module imports from a package's ``__init__``, where nothing can tell which module it comes from."""
    found: set[str] = set()
    for name in imported_names(path):
        parent, _, last = name.rpartition(".")
        package, place = ROOT / parent.replace(".", "/"), ROOT / name.replace(".", "/")
        ours = name.partition(".")[0] in PACKAGES and package.is_dir() and not last.startswith("__")
        if ours and parent and not place.with_suffix(".py").exists() and not place.is_dir():
            found.add(name)
    return found


def is_within(name: str, places: Iterable[str]) -> bool:
    """Tell whether a file is one of some files or lies in one of some folders."""
    return any(name == place or name.startswith(f"{place}/") for place in places)


def relative(path: Path) -> str:
    """Return a file's path inside the project."""
    return path.relative_to(ROOT).as_posix()


def closure(path: Path, without: Iterable[str] = ()) -> set[str]:
    """Return a module's file and all project files that it imports, relative to the project.

    Args:
        path: the module's file.
        without: files and folders that are neither counted nor followed.
    """
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file not in found and not is_within(relative(file), without):
            found.add(file)
            waiting += imported_files(file)
    return {relative(file) for file in found}
