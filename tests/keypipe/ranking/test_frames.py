from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from keypipe.ranking.frames import choose_frames, describe_frames, read_frames
from tests.keypipe.ranking.test_appearance import scene


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Five scenes of twenty frames at ten a second, and a second of black."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (128, 96))
    for seed in range(5):
        for _ in range(20):
            writer.write(scene(seed))
    for _ in range(10):
        writer.write(np.zeros((96, 128, 3), np.uint8))
    writer.release()
    return path


def test_each_scene_is_chosen_before_any_is_twice(film: Path) -> None:
    numbers, looks = describe_frames(film)
    assert numbers.tolist() == list(range(0, 100, 2))  # five a second; nothing of what is black
    assert sorted(number // 20 for number in choose_frames(numbers, looks, 5)) == [0, 1, 2, 3, 4]


def test_what_was_taken_before_is_not_taken_again(film: Path) -> None:
    numbers, looks = describe_frames(film)
    assert sorted(number // 20 for number in choose_frames(numbers, looks, 2, taken=[0, 20, 40])) == [3, 4]


def test_the_frames_are_those_of_the_film(film: Path) -> None:
    read = dict(read_frames(film, [4, 66]))
    assert sorted(read) == [4, 66]
    assert np.abs(read[66].astype(int) - scene(3)).mean() < 12


def test_how_far_it_is(film: Path) -> None:
    told: list[tuple[int, int]] = []
    describe_frames(film, lambda done, total: told.append((done, total)))
    assert told[-1] == (110, 110)
