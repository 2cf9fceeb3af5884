"""The lock is whole for every interpreter: each pin admits it, and what packages need is pinned for it.

What packages need is read from those that are installed, hence on each interpreter for the pins that it has.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from functools import cache

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from tests.imports import ROOT
from tools.lock import BELOW, LEAST, LEFT_OUT, LOCKS

pytestmark = pytest.mark.quick

PYTHONS = [f"3.11.{patch}" for patch in range(10)] + [
    "3.12.0",
    "3.12.20",
    "3.13.0",
    "3.13.20",
    "3.14.0",
    "3.14.2",
    "3.14.20",
]
TEXT = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PINS = [Requirement(line) for line in TEXT.splitlines() if not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LEFT_OUT_ON_PURPOSE = {"opencv-python", "openvino-telemetry"}


@cache
def surroundings(python: str, extra: str = "") -> dict[str, str]:
    """Return what markers are evaluated in."""
    release = {
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
        "implementation_version": python,
    }
    return {str(name): str(value) for name, value in default_environment().items()} | release | {"extra": extra}


def pins_of(python: str) -> dict[NormalizedName, str]:
    """Return name -> version of what is installed with an interpreter."""
    chosen = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate(surroundings(python))]
    names = [canonicalize_name(pin.name) for pin in chosen]
    assert sorted(names) == sorted(set(names)), "a package is pinned twice"
    return {name: str(pin.specifier).removeprefix("==") for name, pin in zip(names, chosen, strict=True)}


@cache
def needs(name: str) -> list[Requirement]:
    """Return what an installed package requires, for all extras and interpreters."""
    return [Requirement(text) for text in importlib.metadata.requires(name) or []]


@cache
def without_marker(need: Requirement) -> Requirement:
    """Return a requirement whose marker has been looked at: with an extra it would not hold again."""
    return Requirement(str(need).partition(";")[0])


@cache
def holds(marker: Marker | None, python: str, extra: str) -> bool:
    return marker is None or marker.evaluate(surroundings(python, extra))


def here() -> dict[NormalizedName, str]:
    """Return the pins of this interpreter that are installed."""
    pins = pins_of(".".join(map(str, sys.version_info[:3])))
    installed = {canonicalize_name(found.name): found.version for found in importlib.metadata.distributions()}
    return {name: version for name, version in pins.items() if name in installed}


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_is_one_exact_version_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for line in text.splitlines():
        assert line.startswith("#") or re.fullmatch(r"[a-z0-9-]+==[\w.+!]+( ; [\w.' ()<>=!]+)?", line), line
    assert "://" not in text


def test_the_least_and_the_last_interpreter_are_the_same_everywhere() -> None:
    admitted = SpecifierSet(PROJECT["requires-python"])
    assert admitted == SpecifierSet(f">={LEAST.removesuffix('.0')},!=3.14.1,<{BELOW}")
    assert all(python in admitted for python in PYTHONS)
    assert f"range='{PROJECT['requires-python']}'" in (ROOT / "tools/find_python.sh").read_text(encoding="utf-8")
    named = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3" in line}
    assert named == {python.rpartition(".")[0] for python in PYTHONS}
    assert set(LEFT_OUT) == LEFT_OUT_ON_PURPOSE


def test_every_pin_admits_every_interpreter_that_its_marker_allows() -> None:
    pins = {python: pins_of(python) for python in PYTHONS}
    refused = []
    for name, version in here().items():
        admitted = SpecifierSet(importlib.metadata.metadata(name).get("Requires-Python") or "")
        chosen = [python for python in PYTHONS if pins[python].get(name) == version]
        refused += [f"{name} on {python}" for python in chosen if python not in admitted]
    assert not refused


@pytest.mark.parametrize("python", PYTHONS)
def test_what_packages_need_is_pinned_and_fits(python: str) -> None:
    """From the extra dev of pyproject.toml on, as pip would resolve it."""
    pins, known = pins_of(python), here()
    extras = PROJECT["optional-dependencies"]
    waiting = [Requirement(text) for text in [*PROJECT["dependencies"], *extras["dev"]]]
    seen: set[tuple[str, str]] = set()
    wrong = set()
    while waiting:
        need = waiting.pop()
        name = canonicalize_name(need.name)
        if name == "keypipe":
            waiting += [Requirement(text) for extra in need.extras for text in extras[extra]]
            continue
        if name in LEFT_OUT_ON_PURPOSE or not holds(need.marker, python, ""):
            continue
        if name not in pins or Version(pins[name]) not in need.specifier:
            wrong.add(f"{need} is needed, and {pins.get(name, 'none')} is pinned")
        # Of a package that this interpreter has in another version, or not at all, nothing is known here.
        if known.get(name) != pins.get(name):
            continue
        for extra in {"", *need.extras} - {known_extra for known_name, known_extra in seen if known_name == name}:
            seen.add((name, extra))
            waiting += [without_marker(found) for found in needs(name) if holds(found.marker, python, extra)]
    assert not wrong


def test_pip_finds_nothing_missing_but_what_is_left_out_on_purpose() -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    missing = set()
    for line in done.stdout.splitlines():
        found = re.fullmatch(r"\S+ \S+ requires (\S+), which is not installed\.", line)
        assert found, line
        missing.add(found[1])
    assert missing == LEFT_OUT_ON_PURPOSE


def test_what_is_installed_here_is_what_is_pinned() -> None:
    pins = here()
    assert len(pins) > 250
    for name, version in pins.items():
        installed = importlib.metadata.version(name)
        assert Version(installed).public == version, name  # a CPU build calls itself 2.0.0+cpu
