from __future__ import annotations

from pathlib import Path

from keypipe.keypoints.predictions import Prediction
from keypipe.tracks.following import Following, follow, read_frames
from keypipe.tracks.journal import Journal, to_seen
from keypipe.tracks.options import SmoothOptions, TrackOptions
from tests.keypipe.tracks.frames import NAMES, cow, dog


def follow_frames(folder: Path, frames: list[list[Prediction]]) -> Following:
    journal = Journal(folder / "frames.jsonl")
    for number, found in enumerate(frames):
        journal.write(to_seen(number, number / 25, found, NAMES))
    journal.close()
    return follow(folder / "frames.jsonl", folder / "ids.jsonl", NAMES, TrackOptions())


def test_short_identities_are_left_out_and_numbers_have_no_holes(tmp_path: Path) -> None:
    frames = [[cow(100 + i)] for i in range(20)]
    for number in (0, 1):
        frames[number].insert(0, dog(400))  # a false alarm comes first
    for number in range(5, 12):
        frames[number].append(dog(300))
    following = follow_frames(tmp_path, frames)
    told = [(track.track, track.class_name, track.first_frame, track.last_frame) for track in following.tracks.values()]
    assert told == [(1, "cow", 0, 19), (2, "dog", 5, 11)]
    assert [item.track for item in list(read_frames(following))[5].predictions] == [1, 2]


def test_gaps_are_marked_and_not_filled(tmp_path: Path) -> None:
    frames = [[cow(100 + i), cow(100 + i, y=200)] for i in range(20)]
    frames[8] = frames[8][1:]
    frames[9] = []
    following = follow_frames(tmp_path, frames)
    first, second = following.tracks.values()
    assert (first.gaps, first.n_seen) == ([(8, 9)], 18)
    assert (second.gaps, second.n_seen) == ([(9, 9)], 19)
    read = list(read_frames(following))
    assert [frame.gaps for frame in read] == [[]] * 8 + [[1], [1, 2]] + [[]] * 10
    assert [item.track for item in read[8].predictions] == [2]


def test_an_end_is_no_gap(tmp_path: Path) -> None:
    following = follow_frames(tmp_path, [[cow(100)]] * 5 + [[]] * 5)
    assert [frame.gaps for frame in read_frames(following)] == [[]] * 10


def test_places_stay_as_they_were_or_are_smoothed(tmp_path: Path) -> None:
    frames = [[cow(100 + (3 if i % 2 else -3))] for i in range(40)]
    following = follow_frames(tmp_path, frames)
    raw = [frame.predictions[0] for frame in read_frames(following)]
    assert [item.box_xyxy for item in raw] == [found[0].box_xyxy for found in frames]
    assert [item.keypoints for item in raw] == [found[0].keypoints for found in frames]

    smoothed = [frame.predictions[0] for frame in read_frames(following, SmoothOptions(0.5, beta=0.0))]
    late = [item.keypoints[0].x for item in smoothed[20:]]
    assert max(late) - min(late) < 3
    assert [point.confidence for point in smoothed[-1].keypoints] == [0.9, 0.8]


def test_unsure_keypoints_are_not_smoothed(tmp_path: Path) -> None:
    following = follow_frames(tmp_path, [[cow(100 + (3 if i % 2 else -3))] for i in range(30)])
    items = [frame.predictions[0] for frame in read_frames(following, SmoothOptions(0.5, beta=0.0), keypoint_conf=0.85)]
    assert abs(items[-1].keypoints[0].x - items[-2].keypoints[0].x) < 3
    assert abs(items[-1].keypoints[1].x - items[-2].keypoints[1].x) == 6  # the tail has a confidence of 0.8
