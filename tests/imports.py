"""Which project modules a module imports, directly and through others; read from the source, nothing is run."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("keypipe", "tasks", "flows")

DATA_OF = {
    "keypipe/report/page.py": sorted(
        p.relative_to(ROOT).as_posix() for p in (ROOT / "keypipe/report/templates").iterdir()
    )
}
"""Files that a module reads when it runs."""


@cache
def imported_names(path: Path) -> frozenset[str]:
    """Return the dotted names of everything that a module imports, at any level."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def imported_files(path: Path) -> set[Path]:
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
    return files


def closure(path: Path) -> set[str]:
    """Return a module's file, all project files that it imports, and the data they read, relative to the project."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += imported_files(file)
    names = {file.relative_to(ROOT).as_posix() for file in found}
    return names | {data for name in names for data in DATA_OF.get(name, ())}
