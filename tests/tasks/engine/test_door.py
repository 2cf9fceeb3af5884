"""The pipeline reaches its engine through the door alone, and a stage only what it needs of it."""

from __future__ import annotations

import pytest

from tasks.engine.door import exporting, inference, training
from tests.imports import PACKAGES, ROOT, closure, imported_files

DOOR = ROOT / "tasks/engine/door"
OUTSIDE = [
    path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if not path.is_relative_to(DOOR.parent)
]


def test_nobody_outside_imports_anything_of_the_engine_but_its_door() -> None:
    reached = {file for path in OUTSIDE for file in imported_files(path) if file.is_relative_to(DOOR.parent)}
    assert {file.parent for file in reached} == {DOOR}


@pytest.mark.parametrize(
    ("stage", "purposes"),
    [
        ("convert", set()),
        ("split", set()),
        ("train", {"training"}),
        ("validate", {"inference"}),
        ("export", {"inference", "exporting"}),
    ],
)
def test_a_stage_reaches_only_what_it_needs_of_the_engine(stage: str, purposes: set[str]) -> None:
    found = {name.removeprefix("tasks/engine/") for name in closure(ROOT / f"tasks/{stage}.py")}
    assert {name for name in ("training", "exporting") if any(file.startswith(f"{name}/") for file in found)} == (
        purposes - {"inference"}
    )
    assert ("inference.py" in found) == ("inference" in purposes)


def test_asking_for_an_engine_and_its_arguments_loads_neither_ultralytics_nor_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from tasks.engine.door import exporting, inference, training;"
        "assert 'epochs' in training.engine().read_train_arguments(); assert 'onnx' in exporting.engine().FORMATS;"
        "inference.engine(); assert not {'torch', 'ultralytics', 'openvino', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_what_is_reserved_is_no_argument_that_a_user_could_miss() -> None:
    reserved, known = training.engine().RESERVED, training.engine().read_train_arguments()
    assert reserved.keys() - known.keys() == {"save_dir"}, "which Ultralytics takes without a default"
    assert all(map(exporting.engine().has_runtime, ("onnx", "torchscript", "openvino")))
    assert not exporting.engine().has_runtime("coreml")
    assert callable(inference.engine().load_torch_model)
