"""flows -> tasks -> keypipe, and one importer for each engine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.imports import PACKAGES, ROOT, imported_names

MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def top_levels(path: Path) -> set[str]:
    """Return the top-level packages that a module imports."""
    return {name.partition(".")[0] for name in imported_names(path)}


def layer(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


FORBIDDEN = {
    "keypipe": {
        "tasks",
        "flows",
        "prefect",
        "dvc",
        "mlflow",
        "ultralytics",
        "torch",
        "pydantic",
        "click",
        "sqlalchemy",
    },
    "tasks": {"flows", "prefect", "click"},
    "flows": {"ultralytics", "torch"},
}
ONE_IMPORTER: dict[str, str | tuple[str, ...]] = {
    "ultralytics": "tasks/engine/",
    "torch": "tasks/engine/",
    "mlflow": "tasks/tracking/",
    "dvc": "tasks/versions/",
    "openvino": "tasks/engine/",
    "fastapi": "keypipe/serving/",
    "uvicorn": "keypipe/serving/server.py",
    "onnxruntime": ("keypipe/inference/onnx_model.py", "tasks/engine/exporting/quantization.py"),
}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_imports_only_what_its_layer_may(path: Path) -> None:
    assert not top_levels(path) & FORBIDDEN[layer(path)]


@pytest.mark.parametrize("package", ONE_IMPORTER)
def test_an_engine_has_one_importer(package: str) -> None:
    importers = {path.relative_to(ROOT).as_posix() for path in MODULES if package in top_levels(path)}
    assert importers
    assert all(name.startswith(ONE_IMPORTER[package]) for name in importers), importers


def test_the_library_imports_without_the_pipeline() -> None:
    """The library's own imports, followed for real, bring none of the engines."""
    import subprocess

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
