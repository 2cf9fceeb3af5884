from __future__ import annotations

from pathlib import Path

import pytest

from keypipe.tracks.journal import Journal, read_journal, to_keypoints, to_objects, to_seen
from tests.keypipe.tracks.frames import NAMES, cow, dog

FRAMES = [to_seen(number, number / 10, [cow(10 * number), dog(5)][: number % 3], NAMES) for number in range(6)]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "frames.jsonl"
    written = Journal(path)
    for frame in FRAMES:
        written.write(frame)
    written.close()
    return path


def test_round_trip(journal: Path) -> None:
    assert list(read_journal(journal)) == FRAMES
    assert to_keypoints(FRAMES[1].objects[0], NAMES["cow"]) == cow(10).keypoints
    objects = to_objects(FRAMES[2], 2)
    assert objects.class_ids.tolist() == [0, 1]
    assert objects.points[1].tolist() == [[5.0, 50.0, 0.9], [0.0, 0.0, 0.0]]


def test_killed_at_any_byte_it_goes_on_after_the_last_whole_frame(journal: Path, tmp_path: Path) -> None:
    content = journal.read_bytes()
    ends = [position for position, byte in enumerate(content, start=1) if byte == ord("\n")]
    for cut in range(len(content) + 1):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(content[:cut])
        again = Journal(path)
        assert again.n_frames == sum(end <= cut for end in ends)
        for frame in FRAMES[again.n_frames :]:
            again.write(frame)
        again.close()
        assert path.read_bytes() == content


def test_rubbish_in_the_middle_ends_it_there(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], b"\x00\x00\n", *lines[2:]]))
    assert Journal(journal).n_frames == 2
