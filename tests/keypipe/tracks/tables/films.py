"""A tracked film for the tests of tables: two cows, one of them with a gap, and a dog at the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keypipe.tracks.following import TrackedFrame, read_frames
from keypipe.tracks.tables.head import TableHead
from keypipe.tracks.tables.writing import FORMATS, open_tables
from tests.keypipe.tracks.frames import SCHEMA, cow, dog
from tests.keypipe.tracks.test_following import follow_frames

ABOUT = json.dumps({"model": {"sha256": "0123456789abcdef"}, "smoothing": None})


def make_film(folder: Path, n_frames: int = 12) -> tuple[list[TrackedFrame], TableHead]:
    """Return the frames, and what tables are told first."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = [[cow(100 + i), cow(100 + i, y=200)] for i in range(n_frames)]
    frames[5] = frames[5][:1]
    for number in range(n_frames - 4, n_frames):
        frames[number].append(dog(300))
    following = follow_frames(folder, frames)
    tracks = list(following.tracks.values())
    return list(read_frames(following)), TableHead(SCHEMA, tracks, n_frames, "film.mp4", ABOUT)


@contextmanager
def written(folder: Path, name: str, n_frames: int = 12) -> Iterator[tuple[Path, list[TrackedFrame]]]:
    """Write a film as a table of a format."""
    frames, head = make_film(folder / "film", n_frames)
    path = folder / f"film{FORMATS[name].ending}"
    with open_tables({name: path}, head) as write:
        for frame in frames:
            write(frame)
    yield path, frames
