"""What of a machine and its processes a run is recorded with."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

PACKAGES = ("keypipe", "ultralytics", "torch", "torchvision", "numpy", "opencv-python-headless", "onnx", "onnxruntime",
            "prefect", "dvc", "mlflow", "labelme", "scikit-learn", "faster-coco-eval")  # fmt: skip


def own_process() -> str:
    """Return ``host:pid:start time`` of this process, which no later process shares."""
    return f"{platform.node()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def process_is_dead(identity: str) -> bool:
    """Tell whether a process is gone; one of another host is never known to be.

    Args:
        identity: as ``own_process`` gives it.
    """
    host, pid, started = identity.rsplit(":", 2) if identity.count(":") >= 2 else ("", "", "")
    if host != platform.node():
        return False
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" != started
    except psutil.NoSuchProcess:
        return True


def machine_type() -> str:
    """Return what of a machine may change the bits of a result: system, processor, cores and GPUs."""
    processors = _values(Path("/proc/cpuinfo"), "model name") or [platform.processor() or platform.machine()]
    places = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    gpus = [f"{GPU} {name}" for place in places for name in _values(place, "Model")]
    return ", ".join([platform.system(), platform.machine(), processors[0], f"{os.cpu_count()} cores", *gpus])


def _values(path: Path, key: str) -> list[str]:
    """Return what stands behind ``key:`` in a file of the system; nothing if the file has no such key."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key]


GPU = "GPU"
"""Word before a GPU's name in ``machine_type``."""


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that shape a result."""
    found: dict[str, str] = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
