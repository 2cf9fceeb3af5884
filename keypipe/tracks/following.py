"""From a journal of predictions to frames of objects with identities: once to find them, once to tell them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from keypipe.keypoints.boxes import Array
from keypipe.keypoints.predictions import DEFAULT_KEYPOINT_CONF, Prediction
from keypipe.tracks.journal import KeypointNames, SeenObject, read_journal, to_keypoints, to_objects
from keypipe.tracks.options import SmoothOptions, TrackOptions
from keypipe.tracks.smoothing import OneEuro
from keypipe.tracks.tracker import Tracker


class TrackedObject(Prediction, frozen=True):
    """An object with its identity, a number from 1 in order of appearance."""

    track: int


class TrackedFrame(msgspec.Struct, frozen=True):
    """A frame.

    Attributes:
        frame: its number from 0.
        seconds: its time.
        predictions: the objects that have an identity, in the order of these.
        gaps: identities that are not seen now, and were before and will be again.
    """

    frame: int
    seconds: float
    predictions: list[TrackedObject]
    gaps: list[int]


class Track(msgspec.Struct):
    """An identity from its first frame to its last.

    Attributes:
        track: number from 1.
        class_name: of the object.
        first_frame: number from 0.
        last_frame: number from 0.
        first_s: seconds.
        last_s: seconds.
        n_seen: frames on which it was seen.
        gaps: first and last frames of the times between them in which it was not.
    """

    track: int
    class_name: str
    first_frame: int
    last_frame: int
    first_s: float
    last_s: float
    n_seen: int
    gaps: list[tuple[int, int]]


class Following(msgspec.Struct, frozen=True):
    """Identities of a video.

    Attributes:
        journal: the predictions.
        ids: a file with a line a frame: for each of its objects the tracker's identity, 0 for none.
        names: of classes and keypoints.
        tracks: those that are told, by the tracker's identity.
    """

    journal: Path
    ids: Path
    names: KeypointNames
    tracks: dict[int, Track]


def follow(
    journal: Path,
    ids: Path,
    names: KeypointNames,
    options: TrackOptions,
    progress: Callable[[int], None] = lambda _done: None,
) -> Following:
    """Find the identities.

    Args:
        journal: the predictions.
        ids: where the tracker's identities are written.
        names: of classes and keypoints.
        options: how.
        progress: is told the number of frames done.

    Returns:
        The identities that were seen on enough frames, numbered in order of appearance.
    """
    n_keypoints = max(len(keypoints) for keypoints in names.values())
    tracker = Tracker(options, n_keypoints)
    found: dict[int, Track] = {}
    class_names = tuple(names)
    with ids.open("wb") as file:
        for frame in read_journal(journal):
            given = tracker.step(frame.seconds, to_objects(frame, n_keypoints)).tolist()
            file.write(json.dumps(given).encode() + b"\n")
            for identity, seen in zip(given, frame.objects, strict=True):
                if identity:
                    _note(found, identity, class_names[seen.class_id], frame.number, frame.seconds)
            progress(frame.number + 1)
    told = [identity for identity, track in found.items() if track.n_seen >= options.min_frames]
    for number, identity in enumerate(told, start=1):
        found[identity].track = number
    return Following(journal, ids, names, {identity: found[identity] for identity in told})


def _note(found: dict[int, Track], identity: int, class_name: str, frame: int, seconds: float) -> None:
    track = found.get(identity)
    if track is None:
        found[identity] = Track(0, class_name, frame, frame, seconds, seconds, 1, [])
        return
    if frame > track.last_frame + 1:
        track.gaps.append((track.last_frame + 1, frame - 1))
    track.last_frame, track.last_s = frame, seconds
    track.n_seen += 1


def read_frames(
    following: Following,
    smooth: SmoothOptions | None = None,
    keypoint_conf: float = DEFAULT_KEYPOINT_CONF,
) -> Iterator[TrackedFrame]:
    """Yield all frames of a video, each with the objects that have an identity.

    Args:
        following: the identities.
        smooth: how places are smoothed; None: not at all.
        keypoint_conf: keypoints with less confidence stay as they are, and say nothing about later ones.
    """
    tracks, class_names = following.tracks, tuple(following.names)
    filters: dict[int, OneEuro] = {}
    live: set[int] = set()
    with following.ids.open("rb") as file:
        for frame, line in zip(read_journal(following.journal), file, strict=True):
            objects: dict[int, TrackedObject] = {}
            for identity, seen in zip(msgspec.json.decode(line), frame.objects, strict=True):
                if identity not in tracks:
                    continue
                live.add(identity)
                if smooth is not None:
                    if identity not in filters:
                        filters[identity] = OneEuro(smooth, 4 + 2 * len(seen.points))
                    seen = _smoothed(seen, frame.seconds, filters[identity], keypoint_conf)  # noqa: PLW2901
                class_name = class_names[seen.class_id]
                keypoints = to_keypoints(seen, following.names[class_name])
                objects[identity] = TrackedObject(
                    class_name, seen.score, seen.box_xyxy, keypoints, tracks[identity].track
                )
            gaps = sorted(tracks[identity].track for identity in live - objects.keys())
            ended = {identity for identity in live if tracks[identity].last_frame <= frame.number}
            live -= ended
            for identity in ended:
                filters.pop(identity, None)
            ordered = sorted(objects.values(), key=lambda item: item.track)
            yield TrackedFrame(frame.number, frame.seconds, ordered, gaps)


def _smoothed(seen: SeenObject, seconds: float, smooth: OneEuro, keypoint_conf: float) -> SeenObject:
    points = np.array(seen.points).reshape(-1, 3)
    places = np.where(points[:, 2:] >= keypoint_conf, points[:, :2], np.nan)
    left, top, right, bottom = seen.box_xyxy
    size = max(((right - left) * (bottom - top)) ** 0.5, 1.0)
    values: Array = np.concatenate([seen.box_xyxy, places.ravel()])
    smoothed = smooth(seconds, values, size)
    known = np.isfinite(smoothed)
    smoothed = np.where(known, smoothed, np.concatenate([seen.box_xyxy, points[:, :2].ravel()])).round(2)
    box, flat = smoothed[:4].tolist(), smoothed[4:].reshape(-1, 2).tolist()
    kept = [(x, y, confidence) for (x, y), (_, _, confidence) in zip(flat, seen.points, strict=True)]
    return SeenObject(seen.class_id, seen.score, (box[0], box[1], box[2], box[3]), kept)
