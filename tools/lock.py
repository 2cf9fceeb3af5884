"""Print the complete lock of exact versions for ``pyproject.toml``'s extra ``dev``, as pip resolves it now.

Run by ``make lock``. Nothing is installed; no address of any registry gets into the lock.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys

HEADER = """\
# Exact versions of everything, transitive ones too. Made by `make lock`, on Linux with Python {version}.
# Installed with --no-deps, since two are left out on purpose: opencv-python, for opencv-python-headless gives the same
# cv2 without needing the system's libGL, and openvino-telemetry, which reports what is converted to its makers.
# Lines of CUDA are left out by `make install TORCH_INDEX=...`.
""".replace("{version}", platform.python_version())

REPLACED = {"opencv-python": "opencv-python-headless"}
LEFT_OUT = {"openvino-telemetry"}
OWN = "keypipe"


def main() -> None:
    """Resolve and print."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    report = json.loads(subprocess.run([*command, ".[dev]"], check=True, capture_output=True, text=True).stdout)
    found = {item["metadata"]["name"].lower(): item["metadata"]["version"] for item in report["install"]}
    lines = [f"{name}=={found[name]}" for name in sorted(found) if name not in {OWN, *REPLACED, *LEFT_OUT}]
    sys.stdout.write(HEADER + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
