"""What this machine has for a training, and whether published weights can be had on it."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import psutil

from keypipe.proposal.training import PUBLISHED, Machine
from tasks.starting.looking import Weights
from tasks.workspace.params import Local
from tasks.workspace.places import ENGINE

ADDRESS = f"https://github.com/ultralytics/assets/releases/latest/download/{PUBLISHED}"
"""Where Ultralytics publishes its weights."""
_TIMEOUT_S = 3.0
_DRIVER_S = 20.0
_MIB = 2**20


def find_machine(local: Local) -> Machine:
    """Say what a training runs on: the GPU that ``local.yaml`` names, else the first; else the CPU."""
    if local.device in ("cpu", "mps"):
        return Machine("cpu", float(psutil.virtual_memory().available))
    command = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_DRIVER_S, check=False, stdin=subprocess.DEVNULL
        )
        free = [float(line) for line in done.stdout.splitlines()] if not done.returncode else []
    except (OSError, subprocess.TimeoutExpired, ValueError):
        free = []
    named = str(local.device or 0)
    number = int(named) if named.isdigit() else 0
    if number < len(free):
        return Machine("gpu", free[number] * _MIB)
    return Machine("cpu", float(psutil.virtual_memory().available))


def find_weights(root: Path, address: str = ADDRESS) -> Weights:
    """Say whether published weights are here, or can be fetched; nothing is fetched.

    Args:
        root: the workspace.
        address: of the weights.
    """
    if (root / ENGINE / PUBLISHED).exists():
        return Weights(published=True)
    request = urllib.request.Request(address, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
            return Weights(published=True)
    except (urllib.error.URLError, OSError, ValueError):
        host = address.split("/")[2]
        return Weights(published=False, why_not=f"{PUBLISHED} is not here and {host} cannot be reached")
