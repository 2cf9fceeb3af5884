"""Make an environment from a lock: say what will come down, install it, and show how far it is.

Run by make with the Python that ``find_python.sh`` chose, which has no packages yet: only the standard library is used.
Environment variables that a user may set: TORCH_INDEX, the address of an index of other builds of torch, and
INSTALLER, which is ``pip`` or ``uv`` and is chosen here otherwise.
"""

from __future__ import annotations

import argparse
import configparser
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, TextIO

TORCH = re.compile(r"^(torch|torchvision)==")
# nvidia-ml-py asks a driver for what it does; ultralytics wants it with every build of torch.
CUDA = re.compile(r"^(triton|nvidia-(?!ml-py)|cuda-)")
SOURCES = ("index-url", "extra-index-url", "find-links", "no-index", "proxy")
"""Settings of pip that say where packages are, which uv does not read."""


def main() -> None:
    """Install as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="environment to make, such as .venv")
    parser.add_argument("lock", type=Path, help="exact versions of all packages")
    parser.add_argument("--project", type=Path, help="a project to install beside them, editable")
    given = parser.parse_args()
    lines = given.lock.read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    index = os.environ.get("TORCH_INDEX", "")
    settings = read_pip_settings(os.environ)
    installer = os.environ.get("INSTALLER") or choose_installer(settings, shutil.which("uv"))
    say_what_comes(given.folder, lines, installer, settings, index)
    made = Uv(given.folder) if installer == "uv" else Pip(given.folder, pins)
    install(made, pins, index, given.project)


def read_pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return which settings of SOURCES pip has, from its variables and its files, and where they are written.

    Read here, since a bare Python has no pip that could be asked.
    """
    home = Path(environ.get("HOME", "~")).expanduser()
    files = [Path(folder) / "pip/pip.conf" for folder in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")]
    files += [Path("/etc/pip.conf"), home / ".pip/pip.conf"]
    files += [Path(environ.get("XDG_CONFIG_HOME", home / ".config")) / "pip/pip.conf"]
    files += [Path(environ["PIP_CONFIG_FILE"])] if "PIP_CONFIG_FILE" in environ else []
    found: dict[str, str] = {}
    for path in files:
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip itself will say so
        for section in ("global", "install"):
            names = parser.options(section) if parser.has_section(section) else []
            found |= {name: str(path) for name in names if name in SOURCES}
    variables = {name: "PIP_" + name.upper().replace("-", "_") for name in SOURCES}
    return found | {name: variable for name, variable in variables.items() if environ.get(variable)}


def choose_installer(settings: Mapping[str, str], uv: str | None) -> str:
    """Return ``uv`` where it is there and would find the same packages as pip."""
    return "uv" if uv and not settings else "pip"


def say_what_comes(folder: Path, lines: list[str], installer: str, settings: Mapping[str, str], index: str) -> None:
    """Print what is about to be downloaded, how large it is, and how less can be had."""
    why = (
        f", as pip has {', '.join(sorted(settings))}" if settings and installer == "pip" and shutil.which("uv") else ""
    )
    say(f"making {folder} with Python {platform.python_version()}, by {installer}{why}")
    sizes = next((re.findall(r"(\d+) MB", line) for line in lines if line.startswith("# Download")), [])
    if len(sizes) < 2:
        say(f"about to download {sizes[0] if sizes else 'an unknown number of'} MB")
        return
    everything, cuda = (int(size) for size in sizes)
    if index:
        say(f"about to download {everything - cuda} MB, and the build of torch that TORCH_INDEX has")
        return
    total, part = f"{everything / 1000:.1f} GB", f"{cuda / 1000:.1f} GB"
    say(f"about to download {total} ({part} of these are torch with CUDA), which take 8 GB of the disk")
    if has_nvidia_driver():
        return
    say("this machine has no NVIDIA driver. The CPU build of torch does the same here, and is much smaller:")
    say("  press Ctrl-C, and run: make install TORCH_INDEX=<the address that PyTorch's site names for pip and CPU>")
    if settings:
        say("  (where pip's settings lead to a CPU build, that is taken, and CUDA is left out)")


def has_nvidia_driver() -> bool:
    """Return whether torch could use a GPU, also in a container or in Windows' Linux."""
    places = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")
    return any(Path(place).exists() for place in places) or shutil.which("nvidia-smi") is not None


def install(installer: Installer, pins: list[str], index: str, project: Path | None) -> None:
    """Install torch first: what it asks for tells whether its build needs CUDA's libraries."""
    torch = [pin for pin in pins if TORCH.match(pin)]
    rest = [pin for pin in pins if pin not in torch]
    if torch:
        installer.install(torch, ["--index-url", index] if index else [])
        if not any(CUDA.match(need) for need in read_needs(installer.python, "torch")):
            rest = [pin for pin in rest if not CUDA.match(pin)]
            say("this build of torch needs no CUDA, which is left out")
    installer.install(rest)
    if project:
        # Built by the setuptools that is locked.
        installer.run("--quiet", "--no-build-isolation", "--editable", project)


def read_needs(python: Path, package: str) -> list[str]:
    """Return what an installed package requires."""
    code = f"import importlib.metadata as m; print(*m.requires({package!r}) or [], sep='\\n')"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.splitlines()


class Installer(Protocol):
    """What installs into an environment."""

    python: Path

    def install(self, pins: list[str], options: list[str] | None = None) -> None:
        """Install exactly these, and show progress."""

    def run(self, *arguments: str | Path) -> None:
        """Install as arguments of ``pip install`` say, or give up."""


class Pip:
    """The environment's own pip, in the version that is locked."""

    def __init__(self, folder: Path, pins: list[str]) -> None:
        self.python, self.log = folder / "bin/python", folder / "install.log"
        subprocess.run([sys.executable, "-m", "venv", *make_fresh(folder), folder], check=True)
        self.log.unlink(missing_ok=True)
        own = [pin for pin in pins if pin.startswith("pip==")]
        if own:
            self.run("--quiet", *own)
        # The pip of an older Python does not know it.
        self.progress_bar = "raw" if own else "off"

    def install(self, pins: list[str], options: list[str] | None = None) -> None:
        """Install exactly these, and show progress."""
        requirements = write_requirements(self.log.parent, pins)
        arguments: list[str | Path] = [
            "--progress-bar",
            self.progress_bar,
            *(options or []),
            "--requirement",
            requirements,
        ]
        self.run(*arguments, n_packages=len(pins))

    def run(self, *arguments: str | Path, n_packages: int = 0) -> None:
        """Run ``pip install``; what it prints goes to the log, and progress to the screen."""
        command = [self.python, "-m", "pip", "install", "--no-deps", "--disable-pip-version-check", *arguments]
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        output = subprocess.PIPE
        with (
            subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True, env=environment) as process,
            self.log.open("a", encoding="utf-8") as log,
        ):
            assert process.stdout is not None
            show(read_progress(process.stdout, log, n_packages))
        if process.returncode:
            stop(self.log)


class Uv:
    """The uv on the PATH, which shows its own progress."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "bin/python"
        self.environment = os.environ | {"UV_PYTHON_DOWNLOADS": "never"}
        fresh = make_fresh(folder) or ["--allow-existing"]
        command: list[str | Path] = [
            "uv",
            "venv",
            "--quiet",
            "--no-project",
            *fresh,
            "--python",
            sys.executable,
            folder,
        ]
        subprocess.run(command, check=True, env=self.environment)

    def install(self, pins: list[str], options: list[str] | None = None) -> None:
        """Install exactly these."""
        self.run(*(options or []), "--requirement", write_requirements(self.python.parents[1], pins))

    def run(self, *arguments: str | Path) -> None:
        """Run ``uv pip install``."""
        command = ["uv", "pip", "install", "--python", self.python, "--no-deps", *arguments]
        if subprocess.run(command, check=False, env=self.environment).returncode:
            sys.exit("keypipe: uv could not install the packages, see above; INSTALLER=pip takes pip instead")


def write_requirements(folder: Path, pins: list[str]) -> Path:
    """Write pins to a file in the environment; return it."""
    path = folder / "install.txt"
    path.write_text("\n".join(pins) + "\n", encoding="utf-8")
    return path


def make_fresh(folder: Path) -> list[str]:
    """Return the option that empties an environment of another Python, whose packages would be left behind."""
    config = folder / "pyvenv.cfg"
    text = config.read_text(encoding="utf-8") if config.is_file() else ""
    version = re.search(r"^version(?:_info)? *= *(\d+\.\d+)", text, flags=re.MULTILINE)
    return ["--clear"] if version and version[1] != ".".join(platform.python_version_tuple()[:2]) else []


def read_progress(lines: Iterable[str], log: TextIO, n_packages: int) -> Iterator[str]:
    """Turn what pip prints into one short text each time something has moved; everything else goes to the log."""
    n_known, n_files, n_bytes, name = 0, 0, 0, ""
    for line in lines:
        moved = re.match(r"\s*Progress (\d+) of (\d+)", line)
        if moved:
            done, size = int(moved[1]), int(moved[2])
            yield f"{n_files} of {n_packages} packages, {(n_bytes + done) / 1e6:,.0f} MB, {name}"
            n_bytes += size if done == size else 0
            continue
        print(line, end="", file=log, flush=True)
        n_packages -= line.startswith("Ignoring ")  # for another Python
        n_known += line.startswith("Collecting ")
        file = re.match(r"\s*(?:Downloading|Using cached|Processing) (\S+\.(?:whl|tar\.gz|zip|metadata))(?:\s|$)", line)
        if file and file[1].endswith(".metadata"):
            yield f"{n_known} of {n_packages} packages looked up"
        elif file:
            n_files += 1
            name = file[1].rpartition("/")[2]
            yield f"{n_files} of {n_packages} packages, {n_bytes / 1e6:,.0f} MB, {name}"
        if line.startswith("Installing collected"):
            yield f"unpacking {n_packages} packages; the larger ones take a minute"


def show(texts: Iterable[str]) -> None:
    """Show progress: one line that changes on a terminal, else a line every ten seconds."""
    shown = -10.0
    on_terminal = sys.stdout.isatty()
    for text in texts:
        now = time.monotonic()
        if now - shown < (0.1 if on_terminal else 10) and not text.startswith("unpacking"):
            continue
        shown = now
        if on_terminal:
            print(f"\r\033[K  {text[: shutil.get_terminal_size().columns - 3]}", end="", flush=True)
        else:
            print(f"  {text}", flush=True)
    if on_terminal:
        print("\r\033[K", end="", flush=True)


def stop(log: Path) -> None:
    """Show the errors of a failed installation, or the end of its output, and give up."""
    lines = log.read_text(encoding="utf-8").splitlines()
    errors = [line for line in lines if line.lstrip().startswith(("ERROR", "error"))]
    print(*(errors or lines[-30:])[-30:], sep="\n", file=sys.stderr)
    sys.exit(f"keypipe: the packages could not be installed; {log} has all that pip said")


def say(text: str) -> None:
    """Print a line of our own, at once."""
    print(f"keypipe: {text}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
