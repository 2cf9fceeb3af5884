"""What train depends on is what it computes with: what only tells can change without retraining anything."""

from __future__ import annotations

from pathlib import Path

from tests.imports import ROOT, imported_files

TELLING = (
    "keypipe/drawing/",
    "keypipe/report/",
    "tasks/pages/",
    "tasks/tracking/",
    "tasks/versions/",
    "tasks/progress.py",
)
TRAIN = ROOT / "tasks/train.py"


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def computing() -> set[Path]:
    """Return what train imports, directly or through others, but for what only tells."""
    found: set[Path] = set()
    waiting = [TRAIN]
    while waiting:
        file = waiting.pop()
        if file not in found and not name(file).startswith(TELLING):
            found.add(file)
            waiting += imported_files(file)
    return found


def test_nothing_that_train_computes_with_imports_what_only_tells() -> None:
    told = {name(file): {name(other) for other in imported_files(file)} for file in computing() - {TRAIN}}
    assert {file: names for file, names in told.items() if any(one.startswith(TELLING) for one in names)} == {}


def test_train_computes_with_these_packages() -> None:
    packages = {name(file.parent) for file in computing()}
    assert packages - {"keypipe/images"} == {  # where the font is found, which charts of the engine are written with
        "keypipe",
        "keypipe/dataset",
        "keypipe/evaluation",
        "keypipe/keypoints",
        "tasks",
        "tasks/engine",
        "tasks/engine/door",
        "tasks/engine/training",
        "tasks/grading",
        "tasks/workspace",
    }


def test_train_does_tell() -> None:
    assert {name(file).rpartition("/")[0] for file in imported_files(TRAIN) if name(file).startswith(TELLING)} == {
        "tasks/pages",
        "tasks/tracking",
        "tasks/versions",
    }
