"""Signs of life are told by changes of a file, whatever any clock says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.system import signs


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(signs, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(signs, "_LOOK_SECONDS", 0.05)


def wait() -> None:
    """Wait without a word."""


def test_a_file_that_does_not_change_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "life"
    assert signs.is_silent(path, wait)
    for time in (1, 4_000_000_000):  # long ago, and ahead of this machine's clock
        path.touch()
        os.utime(path, (time, time))
        assert signs.is_silent(path, wait)
        assert not signs.is_recent(path)


def test_a_process_that_gives_signs_is_heard_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "life"
    path.touch()
    monkeypatch.setattr(signs, "SILENT_SECONDS", 60.0)  # it is heard long before
    with signs.giving_signs(path):
        assert not signs.is_silent(path, wait)
        assert signs.is_recent(path)
    monkeypatch.setattr(signs, "SILENT_SECONDS", 0.5)
    assert signs.is_silent(path, wait)


def test_a_clock_that_is_set_back_is_a_change_as_well(tmp_path: Path) -> None:
    path = tmp_path / "life"
    path.touch()
    assert not signs.is_silent(path, lambda: os.utime(path, (1, 1)))


def test_who_waits_may_give_up_and_a_file_that_goes_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "life"
    path.touch()

    def give_up() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        signs.is_silent(path, give_up)
    assert signs.is_silent(path, path.unlink)
