"""What export asks of an engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.engine.exporting import run
from tasks.engine.exporting.files import Exported
from tasks.engine.exporting.runtimes import Runtime

__all__ = ["Exported", "ExportingEngine", "Runtime", "engine"]


class ExportingEngine(Protocol):
    """Writes trained weights in other formats, and runs these.

    Attributes:
        FORMATS: names of all formats.
    """

    FORMATS: tuple[str, ...]

    def configure(self, root: Path, threads: int | None = None) -> None:
        """Set the engine up for a workspace, before it exports; ``threads`` is None for every core."""
        ...

    def format_titles(self) -> dict[str, str]:
        """Return the names that formats have for people, by those of ``FORMATS``."""
        ...

    def export(
        self,
        weights: Path,
        format_name: str,
        imgsz: int | None,
        arguments: Mapping[str, Any],
        metadata: Mapping[str, str],
        calibration: Path,
        scratch: Path,
    ) -> Exported:
        """Write weights in a format, into an empty folder.

        Raises:
            ModelError: the format's toolchain is absent or fails.
        """
        ...

    def quantize(self, source: Path, target: Path, inputs: Iterable[NDArray[np.float32]]) -> None:
        """Write the INT8 twin of an ONNX file, its ranges those seen on the inputs."""
        ...

    def reference(self) -> Runtime:
        """Return what runs the weights themselves."""
        ...

    def runtime(self, format_name: str) -> Runtime:
        """Return what runs exports of a format."""
        ...

    def has_runtime(self, format_name: str) -> bool:
        """Tell whether a format has a runtime of its own, which is installed wherever keypipe is."""
        ...


def engine() -> ExportingEngine:
    """Return the engine that exports."""
    return run
