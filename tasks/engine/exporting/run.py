"""Exports by Ultralytics: the engine behind ``tasks.engine.door.exporting``."""

from __future__ import annotations

from tasks.engine.exporting.files import FORMATS, export, format_titles
from tasks.engine.exporting.quantization import quantize
from tasks.engine.exporting.runtimes import RUNTIMES, PyTorch, Runtime, UltralyticsBackend
from tasks.engine.settings import configure

__all__ = ["FORMATS", "configure", "export", "format_titles", "has_runtime", "quantize", "reference", "runtime"]


def reference() -> Runtime:
    """Return what runs the weights themselves."""
    return PyTorch()


def runtime(format_name: str) -> Runtime:
    """Return what runs exports of a format."""
    return RUNTIMES.get(format_name, UltralyticsBackend())


def has_runtime(format_name: str) -> bool:
    """Tell whether a format has a runtime of its own, which is installed wherever keypipe is."""
    return format_name in RUNTIMES
