"""What is read without Prefect is what Prefect itself says, or that it has to be asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.services import quick_settings

ASK = "from prefect.settings import get_current_settings as get; print(get().api.url)"
PROFILES = """\
active = "own"

[profiles.own]
PREFECT_API_URL = "http://127.0.0.1:4300/api"

[profiles.none]
PREFECT_LOGGING_LEVEL = "INFO"
"""


@pytest.mark.parametrize(
    ("files", "env", "expected"),
    [
        ({}, {}, None),
        ({}, {"PREFECT_API_URL": "http://127.0.0.1:4301/api"}, "http://127.0.0.1:4301/api"),
        ({"home/profiles.toml": PROFILES}, {}, "http://127.0.0.1:4300/api"),
        ({"home/profiles.toml": PROFILES}, {"PREFECT_PROFILE": "none"}, None),
        ({"home/profiles.toml": PROFILES}, {"PREFECT_API_URL": "http://h:1/api"}, "http://h:1/api"),
        ({"other.toml": PROFILES}, {"PREFECT_PROFILES_PATH": "other.toml"}, "http://127.0.0.1:4300/api"),
        ({"pyproject.toml": '[project]\nname = "prefect-friend"\n'}, {}, None),
    ],
)
def test_it_is_what_prefect_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    env: dict[str, str],
    expected: str | None,
) -> None:
    prepare(tmp_path, monkeypatch, files, env)
    said = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True).stdout.strip()
    assert said == str(expected)
    assert quick_settings.configured_url() == expected


@pytest.mark.parametrize(
    ("files", "env"),
    [
        ({"prefect.toml": '[api]\nurl = "http://h:1/api"\n'}, {}),
        ({"pyproject.toml": '[tool.prefect.api]\nurl = "http://h:1/api"\n'}, {}),
        ({".env": "PREFECT_API_URL=http://h:1/api\n"}, {}),
        ({"home/profiles.toml": "no toml ="}, {}),
        ({"home/profiles.toml": PROFILES}, {"PREFECT_PROFILE": "gone"}),
        ({}, {"PREFECT_TEST_MODE": "1"}),
        ({}, {"PREFECT_API_URL": ""}),
    ],
)
def test_in_doubt_prefect_has_to_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], env: dict[str, str]
) -> None:
    prepare(tmp_path, monkeypatch, files, env)
    with pytest.raises(quick_settings.UnclearError):
        quick_settings.configured_url()


def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], env: dict[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith("PREFECT")]:
        monkeypatch.delenv(name)
    (folder / "home").mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    monkeypatch.setenv("PREFECT_HOME", str(folder / "home"))
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
