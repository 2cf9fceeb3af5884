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


_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SLACK_SECONDS = 2.0
"""On Linux psutil works a time of start out from the boot time, which a correction of the clock moves."""


def own_process() -> str:
    """Return ``host:pid:start mark`` of this process, which no later process shares."""
    return f"{platform.node()}:{os.getpid()}:{start_mark(os.getpid())}"


def process_is_dead(identity: str) -> bool:
    """Tell whether a process is gone; one of another host is never known to be.

    Args:
        identity: as ``own_process`` gives it.
    """
    return _lives(identity) is False


def process_is_alive(identity: str) -> bool:
    """Tell whether a process runs; one of another host is never known to."""
    return _lives(identity) is True


def _lives(identity: str) -> bool | None:
    host, pid, started = identity.rsplit(":", 2) if identity.count(":") >= 2 else ("", "", "")
    if host != platform.node() or not pid.isdigit():
        return None
    return is_alive(int(pid), float(started) if _is_time(started) else started)


def start_mark(pid: int) -> str | None:
    """Return what tells a process from every other one that had or will have its number; None when it is gone.

    On Linux the boot, and the clock ticks from it to the start of the process: a correction of the clock moves neither.
    Elsewhere the system itself remembers the time of the start, which stays what it was.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        if not _BOOT.exists():
            return f"{process.create_time():.2f}"
        # The command, in brackets, may hold blanks; the start is field 22 of all.
        ticks = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (psutil.Error, OSError):
        return None
    return f"{_BOOT.read_text(encoding='ascii').strip()}-{ticks}"


def is_alive(pid: int, started: str | float) -> bool:
    """Tell whether the process that had this number still runs.

    Args:
        pid: its number.
        started: its mark; or a time in seconds since the epoch, as earlier versions wrote it.
    """
    mark = start_mark(pid)
    if mark is None or isinstance(started, str):
        return mark is not None and mark == started
    try:
        return abs(psutil.Process(pid).create_time() - started) < _SLACK_SECONDS
    except psutil.Error:
        return False


def _is_time(text: str) -> bool:
    return _BOOT.exists() and text.replace(".", "", 1).isdigit()


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
