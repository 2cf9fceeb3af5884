"""How make finds an interpreter, chooses pip or uv, and what it says before it downloads anything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.imports import ROOT
from tools.install import choose_installer, make_fresh, read_pip_settings, read_progress

TOOLS = ("sh", "cut", "make", "touch")
BASE = getattr(sys, "_base_executable", sys.executable)
OTHER = "#!/bin/sh\nprintf 'another version\\t{version}\\t%s\\n' \"$0\"\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder to be the whole PATH: the few programs that make and the script need, and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).symlink_to(str(shutil.which(name)))
    return folder


def put(folder: Path, name: str, text: str) -> None:
    """Write a program into a folder."""
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def find(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script that finds an interpreter."""
    command = ["sh", str(ROOT / "tools/find_python.sh"), str(path.parent / "venv"), *arguments]
    return subprocess.run(command, env={"PATH": str(path)}, capture_output=True, text=True)


def link_this_python(path: Path, name: str) -> None:
    """Let a name of the PATH lead to this interpreter; a link to it would miss its libraries."""
    put(path, name, f'#!/bin/sh\nexec "{BASE}" "$@"\n')


def test_the_first_that_fits_is_taken(path: Path) -> None:
    put(path, "python3", OTHER.format(version="3.9.2"))
    link_this_python(path, "python3.12")
    done = find(path)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()).samefile(BASE)


def test_an_environment_keeps_its_interpreter(path: Path, tmp_path: Path) -> None:
    (tmp_path / "venv/bin").mkdir(parents=True)
    put(tmp_path / "venv/bin", "python3", "#!/bin/sh\nprintf 'fits\\t3.11.9\\t/of/the/environment\\n'\n")
    link_this_python(path, "python3")
    assert find(path).stdout == "/of/the/environment\n"
    assert Path(find(path, "python3").stdout.strip()).samefile(BASE)


def test_none_fits(path: Path) -> None:
    put(path, "python3", OTHER.format(version="3.9.2"))
    put(path, "python3.11", OTHER.format(version="3.11.5").replace("another version", "without venv"))
    done = find(path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "needs Python 3.11, 3.12, 3.13 or 3.14 (3.11.0 at least)" in done.stderr
    assert "python3 is 3.9.2" in done.stderr
    assert "lacks its module venv (Debian, Ubuntu: apt install python3.11-venv)" in done.stderr
    assert "uv" not in done.stderr


def test_make_stops_before_it_makes_anything(path: Path, tmp_path: Path) -> None:
    put(path, "python3", OTHER.format(version="3.9.2"))
    for given in ((), ("PYTHON=python4",)):
        command = ["make", "install", f"VENV={tmp_path / 'venv'}", *given]
        done = subprocess.run(command, cwd=ROOT, env={"PATH": str(path)}, capture_output=True, text=True)
        assert done.returncode == 2
        assert "keypipe needs Python 3.11" in done.stderr
        assert ("python4 does not run" if given else "python3 is 3.9.2") in done.stderr
        assert not (tmp_path / "venv").exists()


def test_uv_may_lend_an_interpreter_but_not_fetch_one(path: Path, tmp_path: Path) -> None:
    put(path, "uv", f'#!/bin/sh\necho "$@" >> "{tmp_path}/asked"\nexit 1\n')
    done = find(path)
    assert done.returncode == 1
    assert "uv python install" in done.stderr
    (asked,) = (tmp_path / "asked").read_text().splitlines()
    assert "python find --no-python-downloads" in asked
    link_this_python(path, "python-of-uv")
    put(path, "uv", f'#!/bin/sh\necho "{path}/python-of-uv"\n')
    assert Path(find(path).stdout.strip()).samefile(BASE)


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        (".config/pip/pip.conf", "[global]\nextra-index-url = a\n", {"extra-index-url"}),
        (".pip/pip.conf", "[install]\nfind_links = a\n", set()),
        (".pip/pip.conf", "[install]\nfind-links = a\n", {"find-links"}),
        (".config/pip/pip.conf", "[global]\ntimeout = 60\n[download]\nindex-url = a\n", set()),
        (".config/pip/pip.conf", "index-url = a\n", set()),
    ],
)
def test_pip_s_settings_are_read(tmp_path: Path, file: str, text: str, found: set[str]) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text)
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path / "none")}
    system = set(read_pip_settings({"HOME": str(tmp_path / "none"), "XDG_CONFIG_DIRS": str(tmp_path / "none")}))
    assert set(read_pip_settings(environ)) == found | system


def test_pip_is_taken_where_it_is_configured_and_uv_where_it_is_there_otherwise(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path), "PIP_FIND_LINKS": "/wheels", "PIP_TIMEOUT": "9"}
    assert read_pip_settings(environ)["find-links"] == "PIP_FIND_LINKS"
    assert choose_installer(read_pip_settings(environ), "/bin/uv") == "pip"
    assert choose_installer({}, "/bin/uv") == "uv"
    assert choose_installer({}, None) == "pip"


def test_an_environment_of_another_python_is_emptied(tmp_path: Path) -> None:
    assert make_fresh(tmp_path) == []
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = {}.{}.99\n".format(*sys.version_info))
    assert make_fresh(tmp_path) == []
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion_info = 3.9.2\n")
    assert make_fresh(tmp_path) == ["--clear"]


def test_progress_tells_packages_and_megabytes(tmp_path: Path) -> None:
    said = ["Ignoring c: markers do not match\n", "Collecting a==1\n", "  Downloading a-1.whl.metadata (2 kB)\n"]
    said += ["Progress 2 of 2\n", "Downloading a-1.whl (3 MB)\n", "Progress 1000000 of 3000000\n"]
    said += ["Progress 3000000 of 3000000\n", "Collecting b==1\n", "  Processing /there/b-1.tar.gz\n", "WARNING: odd\n"]
    said += ["Installing collected packages: a, b\n"]
    with (tmp_path / "log").open("w") as log:
        told = list(read_progress(iter(said), log, 3))
    assert told[0] == "1 of 2 packages looked up"
    assert told[2:5] == [f"1 of 2 packages, {n} MB, a-1.whl" for n in (0, 1, 3)]
    assert told[5] == "2 of 2 packages, 3 MB, b-1.tar.gz"
    assert told[6].startswith("unpacking 2 packages")
    assert "WARNING: odd" in (tmp_path / "log").read_text()


def write_wheel(folder: Path, name: str, *needs: str) -> None:
    """Write a package of one empty module."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        info = f"{name}-1.0.dist-info"
        lines = [
            "Metadata-Version: 2.1",
            f"Name: {name}",
            "Version: 1.0",
            *(f"Requires-Dist: {need}" for need in needs),
        ]
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.mark.parametrize("installer", ["pip", "uv"])
@pytest.mark.parametrize("build", ["cuda", "cpu"])
def test_the_build_of_torch_decides_whether_cuda_is_installed(tmp_path: Path, build: str, installer: str) -> None:
    if installer == "uv" and not shutil.which("uv"):
        pytest.skip("needs uv on the PATH")
    wheels, venv, lock = tmp_path / "wheels", tmp_path / "venv", tmp_path / "requirements.lock"
    write_wheel(wheels, "torch", *(["nvidia-thing==1.0"] if build == "cuda" else []))
    for name in ("nvidia_thing", "nvidia_ml_py", "rest"):
        write_wheel(wheels, name)
    pins = ["nvidia-ml-py==1.0", "nvidia-thing==1.0", "rest==1.0", "torch==1.0", "absent==1.0 ; python_version < '3'"]
    lock.write_text(
        "# Download for Linux on x86-64: 3800 MB, of these torch with CUDA 3000 MB.\n" + "\n".join(pins) + "\n"
    )
    only = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(wheels)}
    done = subprocess.run(
        [BASE, str(ROOT / "tools/install.py"), str(venv), str(lock)],
        env=os.environ | only | {"INSTALLER": installer, "TORCH_INDEX": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (site,) = venv.glob("lib/python3*/site-packages")
    assert {path.stem for path in site.glob("*.py")} >= {"torch", "rest", "nvidia_ml_py"}
    assert (site / "nvidia_thing.py").exists() == (build == "cuda")
    assert f", by {installer}" in done.stdout
    assert "about to download 3.8 GB" in done.stdout
    assert ("needs no CUDA" in done.stdout) == (build == "cpu")


def test_a_package_that_is_not_there_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("absent==1.0\n")
    done = subprocess.run(
        [BASE, str(ROOT / "tools/install.py"), str(tmp_path / "venv"), str(lock)],
        env=os.environ | {"PIP_NO_INDEX": "1", "INSTALLER": "pip"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "No matching distribution found for absent==1.0" in done.stderr
    assert "install.log" in done.stderr
    assert "Traceback" not in done.stderr
