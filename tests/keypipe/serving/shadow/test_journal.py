from __future__ import annotations

from pathlib import Path

import pytest

from keypipe.errors import ConfigError
from keypipe.serving.shadow.journal import Journal


def test_it_never_takes_more_room_than_it_is_given_and_keeps_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "logs/shadow.jsonl"
    journal = Journal(path, 1000)
    for number in range(500):
        journal.write(b'{"n": %d}' % number)
        assert sum(file.stat().st_size for file in path.parent.iterdir()) <= 1000
    older, newer = ((path.with_name(name)).read_text().splitlines() for name in ("shadow.jsonl.1", "shadow.jsonl"))
    numbers = [int(line.split()[1].rstrip("}")) for line in (*older, *newer)]
    assert numbers == list(range(numbers[0], 500))
    assert len(numbers) > 40


def test_it_goes_on_with_what_is_there(tmp_path: Path) -> None:
    Journal(tmp_path / "log", 1000).write(b"1")
    Journal(tmp_path / "log", 1000).write(b"2")
    assert (tmp_path / "log").read_bytes() == b"1\n2\n"
    Journal(tmp_path / "log", 1000).write(b"x" * 600)  # longer than its room
    assert (tmp_path / "log").read_bytes() == b"1\n2\n"


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/log: cannot be written there \(.*\); choose --shadow-log"):
        Journal(tmp_path / "file/log", 1000)
