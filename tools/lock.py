"""Write the locks: exact versions of everything, one list for every interpreter.

``requirements.lock`` holds ``pyproject.toml``'s extra ``dev``, and ``requirements-labelme.lock`` its group ``labelme``.
Run by ``make lock``, in an environment that has uv. Nothing is installed, and no address of a registry gets into a
lock. Versions in a lock stay as long as they fit; ``make lock UPGRADE=--upgrade`` takes the newest of all.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
# The least interpreter; pyproject.toml says the same, and tests/test_lock.py compares them.
LEAST, BELOW = "3.11.0", "3.15"
LEFT_OUT = ("opencv-python", "openvino-telemetry")
"""Left out on purpose, see the header; ``pip check`` complains of nothing but these."""
EVERYWHERE = ("sys_platform == 'linux'", f"python_full_version < '{BELOW}'")
"""What holds wherever keypipe is installed, and says nothing in a marker."""
CUDA = re.compile(r"^(torch|torchvision|triton|nvidia-|cuda-)")
LOCKS = {"requirements.lock": ("--extra", "dev"), "requirements-labelme.lock": ("--group", "labelme")}
HEADERS = {
    "requirements.lock": """\
# Exact versions of everything, transitive ones too, for Linux and every Python that pyproject.toml admits.
# Made by `make lock`; installed by tools/install.py with --no-deps, since two are left out on purpose: opencv-python,
# for opencv-python-headless gives the same cv2 without needing the system's libGL, and openvino-telemetry, which
# reports what is converted to its makers. Without hashes, since builds of torch for other machines have the same
# version and other hashes, pip wants hashes for all packages or for none, and they would be 5,000 lines to these 300.
# Download for Linux on x86-64: {all} MB, of these torch with CUDA {cuda} MB.
""",
    "requirements-labelme.lock": """\
# Exact versions of the newest labelme and all that it needs. Made by `make lock`, installed by `make labelme`.
# Download for Linux on x86-64: {all} MB.
""",
}


def main() -> None:
    """Resolve and write."""
    for name, selection in LOCKS.items():
        lock = ROOT / name
        known = lock.read_text(encoding="utf-8") if lock.exists() else ""
        with tempfile.TemporaryDirectory() as folder:
            resolved = resolve(Path(folder), known, [*selection, *sys.argv[1:]])
            sizes = measure(Path(folder), resolved)
        header = HEADERS[name].format_map({part: round(size / 1e6) for part, size in sizes.items()})
        lock.write_text(header + resolved, encoding="utf-8")


def resolve(folder: Path, known: str, options: list[str]) -> str:
    """Return a line for each package, for all interpreters together."""
    project, lock = folder / "pyproject.toml", folder / "requirements.lock"
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project.write_text(f'{text}\n[tool.uv]\nenvironments = ["{" and ".join(EVERYWHERE)}"]\n', encoding="utf-8")
    lock.write_text(known, encoding="utf-8")
    left_out = [part for name in LEFT_OUT for part in ("--no-emit-package", name)]
    run_uv(folder, "--universal", "--python-version", LEAST, *left_out, *options, "-o", lock, project)
    lines = lock.read_text(encoding="utf-8").splitlines()
    return "".join(f"{shorten_marker(line)}\n" for line in lines if line[:1] not in "#-")


def shorten_marker(line: str) -> str:
    """Leave out of a line's marker what holds everywhere."""
    pin, _, marker = line.partition(" ; ")
    for clause in EVERYWHERE:
        marker = marker.replace(f" and {clause}", "").replace(f"{clause} and ", "")
        marker = "" if marker == clause else marker
    marker = re.sub(r"\((\w+ == '\w+')\)", r"\1", marker)
    if re.fullmatch(r"\([^()]*\)", marker):
        marker = marker[1:-1]
    return f"{pin} ; {marker}" if marker else pin


def measure(folder: Path, resolved: str) -> dict[str, int]:
    """Return how many bytes come down with Python 3.12, of all packages and of those that are torch and CUDA."""
    lock, sizes = folder / "all.txt", folder / "pylock.toml"
    lock.write_text(resolved, encoding="utf-8")
    platform = ("--python-platform", "x86_64-manylinux_2_39", "--python-version", "3.12")
    run_uv(folder, "--no-deps", *platform, "--format", "pylock.toml", "-o", sizes, lock)
    found = {}
    for package in tomllib.loads(sizes.read_text(encoding="utf-8"))["packages"]:
        files = package.get("wheels") or [package["sdist"]]
        found[package["name"]] = max(file.get("size", 0) for file in files)
    return {"all": sum(found.values()), "cuda": sum(size for name, size in found.items() if CUDA.match(name))}


def run_uv(folder: Path, *arguments: str | Path) -> None:
    """Run ``uv pip compile``, which must neither fetch an interpreter nor write down where packages come from."""
    quiet = ("--quiet", "--no-header", "--no-annotate", "--no-emit-index-url")
    command = [sys.executable, "-m", "uv", "pip", "compile", *quiet, *map(str, arguments)]
    environment = os.environ | {"UV_PYTHON_DOWNLOADS": "never"}
    # In the folder whose pyproject.toml names the environments; uv prints what it writes, too.
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, env=environment)


if __name__ == "__main__":
    main()
