"""How well identities are kept: keypipe's tracker, parts of it, and others, on drawn films whose identities are known.

    python -m benchmarks.tracks [--films 12] [--seconds 60] [--fps 25]

Cows of the demo walk, cross, turn, leave the picture and come back (benchmarks/film.py). What a detector would have
found of them is drawn by chance from the truth: keypoints and boxes that are off, objects missed one by one and for a
while, animals hidden behind others missed mostly, false alarms, low scores where little is seen. Every tracker gets
the same.

- **switches**: a cow is found under another identity than the last time (CLEAR MOT).
- **IDF1**: twice the objects found under the one identity that is its cow's, over all found and all true
  (Ristani et al., ECCV 2016 workshops). A cow that comes back is the same cow here, though no tracker of this table can
  know that; "per visit" counts it as another one.
- **identities**: told, beside the true number of visits.

ByteTrack, OC-SORT and SORT are those of the package `trackers`, where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from benchmarks.film import KEYPOINT_NAMES, Film
from keypipe.keypoints.boxes import box_iou
from keypipe.tracks.options import WEAK_SHARE, TrackOptions
from keypipe.tracks.similarity import Objects
from keypipe.tracks.tracker import Tracker

CONF = 0.25
_HIT = 0.5  # overlap at which an object is its cow's
_VISIT_S = 2.0  # a cow that was out of the picture for longer comes back as another visitor


class Moment(msgspec.Struct):
    """A frame: its time, the truth (cow, visit and box), and what a detector found."""

    seconds: float
    cows: list[tuple[int, int]]
    boxes: NDArray[np.float64]
    found: Objects


Given = list[NDArray[np.int64]]
"""An identity for each object on each frame; 0 for none."""


# ----------------------------------------------------------------------------------------- detections


def draw_detections(seed: int, seconds: float, fps: float, n_cows: int = 4, miss: float = 0.06) -> list[Moment]:
    """Draw what a detector would have found in a film.

    Args:
        seed: of film and detector.
        seconds: length.
        fps: frames a second.
        n_cows: who is in it, at one time or another.
        miss: share of objects that are missed though all of them is seen.
    """
    film, rng = Film(seed, n_cows, fps=fps), np.random.default_rng([seed, 5])
    last_seen: dict[int, float] = {}
    visits: dict[int, int] = defaultdict(int)
    blind: dict[int, float] = {}
    moments: list[Moment] = []
    for number in range(round(seconds * fps)):
        now = number / fps
        cows = film.cows(now)
        for cow in cows:
            if cow.identity in last_seen and now - last_seen[cow.identity] > _VISIT_S:
                visits[cow.identity] += 1
            last_seen[cow.identity] = now
        boxes = np.array([cow.box_xyxy for cow in cows]).reshape(-1, 4)
        rows = []
        for index, cow in enumerate(cows):
            nearer = [other for other in range(len(cows)) if cows[other].depth > cow.depth]
            hidden = max((_covered(boxes[index], boxes[other]) for other in nearer), default=0.0)
            if rng.random() < 0.15 / fps:  # now and then a detector does not see somebody for a while
                blind[cow.identity] = now + rng.uniform(0.2, 0.8)
            lost = miss + (0.75 if hidden > 0.7 else 0.25 if hidden > 0.45 else 0.0)
            if rng.random() < lost or now < blind.get(cow.identity, -1.0):
                continue
            rows.append(_detection(rng, cow.box_xyxy, cow.points_px, float(np.clip(1 - hidden, 0.2, 1))))
        if rng.random() < 0.03:
            rows.append(_false_alarm(rng, film.size_wh))
        moments.append(Moment(now, [(cow.identity, visits[cow.identity]) for cow in cows], boxes, _to_objects(rows)))
    return moments


def _covered(box: NDArray[np.float64], by: NDArray[np.float64]) -> float:
    low, high = np.maximum(box[:2], by[:2]), np.minimum(box[2:], by[2:])
    return float(np.clip(high - low, 0, None).prod() / (box[2:] - box[:2]).prod())


Row = tuple[float, NDArray[np.float64], NDArray[np.float64]]


def _detection(rng: np.random.Generator, box: Sequence[float], points: NDArray[np.float64], clear: float) -> Row:
    size = float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
    score = float(np.clip(rng.normal(0.25 + 0.55 * clear, 0.12), 0.11, 0.99))
    off = rng.normal(0, 0.03 * size, points.shape) * rng.choice([1, 5], (len(points), 1), p=[0.95, 0.05])
    confidence = np.clip(rng.normal(0.4 + 0.5 * clear, 0.15, len(points)), 0.05, 1)
    return score, np.array(box) + rng.normal(0, 0.03 * size, 4), np.column_stack([points + off, confidence])


def _false_alarm(rng: np.random.Generator, size_wh: tuple[int, int]) -> Row:
    centre, half = rng.uniform([0, 0], size_wh), rng.uniform(15, 60)
    points = rng.uniform(centre - half, centre + half, (len(KEYPOINT_NAMES), 2))
    confidence = rng.uniform(0.05, 0.6, len(points))
    return (
        float(rng.uniform(0.1, 0.5)),
        np.concatenate([centre - half, centre + half]),
        np.column_stack([points, confidence]),
    )


def _to_objects(rows: Sequence[Row]) -> Objects:
    count = len(rows)
    return Objects(
        np.zeros(count, np.int64),
        np.array([score for score, _, _ in rows], np.float64),
        np.array([box for _, box, _ in rows]).reshape(count, 4),
        np.array([points for _, _, points in rows]).reshape(count, len(KEYPOINT_NAMES), 3),
    )


# ----------------------------------------------------------------------------------------- trackers


def follow_keypipe(
    moments: Sequence[Moment], _fps: float, options: TrackOptions | None = None, keypoints: bool = True
) -> Given:
    """Follow by keypipe's tracker, as `keypipe predict --track` does: short identities are left out."""
    options = options or TrackOptions(new_score=CONF)
    tracker, given = Tracker(options, len(KEYPOINT_NAMES)), []
    for moment in moments:
        found = moment.found
        if not keypoints:  # without a sure one the middles of the boxes count
            found = Objects(found.class_ids, found.scores, found.boxes_xyxy, np.zeros_like(found.points))
        ids = np.zeros(len(found), np.int64)
        usable = np.flatnonzero(found.scores >= WEAK_SHARE * options.new_score)
        ids[usable] = tracker.step(moment.seconds, found.take(usable))
        given.append(ids)
    counts = np.bincount(np.concatenate(given))
    return [np.where(counts[ids] >= options.min_frames, ids, 0) for ids in given]


def follow_overlap(moments: Sequence[Moment], _fps: float) -> Given:
    """Follow by the overlap with the frame before alone."""
    last: list[tuple[int, NDArray[np.float64]]] = []
    given, next_id = [], 1
    for moment in moments:
        found = moment.found
        ids = np.zeros(len(found), np.int64)
        sure = np.flatnonzero(found.scores >= CONF)
        if last and len(sure):
            overlaps = box_iou(np.array([box for _, box in last])[:, None], found.boxes_xyxy[sure][None])
            for row, column in zip(*linear_sum_assignment(overlaps, maximize=True), strict=True):
                if overlaps[row, column] > 0.3:
                    ids[sure[column]] = last[row][0]
        for index in sure[ids[sure] == 0]:
            ids[index], next_id = next_id, next_id + 1
        last = [(int(ids[index]), found.boxes_xyxy[index]) for index in sure]
        given.append(ids)
    return given


def follow_others(name: str) -> Callable[[Sequence[Moment], float], Given]:
    """Return how a tracker of the package `trackers` follows, with keypipe's scores and its wait of two seconds."""

    def follow(moments: Sequence[Moment], fps: float) -> Given:
        import supervision
        import trackers

        makers: dict[str, Callable[[], Any]] = {
            "ByteTrack": lambda: trackers.ByteTrackTracker(60, fps, CONF, high_conf_det_threshold=CONF),
            "OC-SORT": lambda: trackers.OCSORTTracker(60, fps, high_conf_det_threshold=CONF),
            "SORT": lambda: trackers.SORTTracker(60, fps, CONF),
        }
        tracker, given = makers[name](), []
        for moment in moments:
            found = moment.found
            detections = supervision.Detections(
                xyxy=found.boxes_xyxy.astype(np.float32),
                confidence=found.scores.astype(np.float32),
                class_id=found.class_ids.astype(int),
                data={"row": np.arange(len(found))},
            )
            told = tracker.update(detections)
            ids = np.zeros(len(found), np.int64)
            if len(told) and told.tracker_id is not None:
                ids[told.data["row"].astype(int)] = np.maximum(told.tracker_id.astype(int) + 1, 0)
            given.append(ids)
        return given

    return follow


# ----------------------------------------------------------------------------------------- figures


class Figures(msgspec.Struct):
    """What a tracker made of films: see the head of this file."""

    switches: int = 0
    hits: int = 0
    hits_visits: int = 0
    found: int = 0
    true: int = 0
    visits: int = 0
    identities: int = 0
    seconds: float = 0.0
    frames: int = 0

    @property
    def idf1(self) -> float:
        """Of cows."""
        return 2 * self.hits / max(self.found + self.true, 1)

    @property
    def idf1_visits(self) -> float:
        """Of visits."""
        return 2 * self.hits_visits / max(self.found + self.true, 1)


def judge(moments: Sequence[Moment], given: Given, figures: Figures) -> None:
    """Add a film to the figures."""
    pairs: dict[int, dict[tuple[int, int], int]] = {0: defaultdict(int), 1: defaultdict(int)}
    last: dict[int, int] = {}
    seen: set[int] = set()
    numbers: dict[tuple[int, int], int] = {}
    for moment, ids in zip(moments, given, strict=True):
        rows = np.flatnonzero(ids)
        figures.found += len(rows)
        figures.true += len(moment.cows)
        seen |= set(ids[rows].tolist())
        for key in moment.cows:
            numbers.setdefault(key, len(numbers))
        if not len(rows) or not moment.cows:
            continue
        overlaps = box_iou(moment.boxes[:, None], moment.found.boxes_xyxy[rows][None])
        for truth, column in zip(*linear_sum_assignment(overlaps, maximize=True), strict=True):
            if overlaps[truth, column] < _HIT:
                continue
            identity, key = int(ids[rows[column]]), moment.cows[truth]
            pairs[0][key[0], identity] += 1
            pairs[1][numbers[key], identity] += 1
            visit = numbers[key]
            figures.switches += visit in last and last[visit] != identity
            last[visit] = identity
    figures.hits += _best_sum(pairs[0])
    figures.hits_visits += _best_sum(pairs[1])
    figures.visits += len(numbers)
    figures.identities += len(seen)


def _best_sum(pairs: dict[tuple[int, int], int]) -> int:
    """Return the most that a pairing of cows and identities, one to one, has in common."""
    firsts, seconds = (sorted({key[side] for key in pairs}) for side in (0, 1))
    table = np.zeros((len(firsts), len(seconds)))
    for (first, second), count in pairs.items():
        table[firsts.index(first), seconds.index(second)] = count
    rows, columns = linear_sum_assignment(table, maximize=True)
    return int(table[rows, columns].sum())


def measure(films: Sequence[list[Moment]], fps: float, follow: Callable[[Sequence[Moment], float], Given]) -> Figures:
    """Follow all films by one tracker."""
    figures = Figures()
    for moments in films:
        started = time.process_time()
        given = follow(moments, fps)
        figures.seconds += time.process_time() - started
        figures.frames += len(moments)
        judge(moments, given, figures)
    return figures


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--fps", type=float, default=25)
    parser.add_argument(
        "--first", type=int, default=100, help="seed of the first film; constants were chosen on 0 to 11"
    )
    options = parser.parse_args()
    films = [draw_detections(options.first + film, options.seconds, options.fps) for film in range(options.films)]
    trackers: dict[str, Callable[[Sequence[Moment], float], Given]] = {
        "keypipe": follow_keypipe,
        "keypipe, boxes alone": lambda moments, fps: follow_keypipe(moments, fps, keypoints=False),
    }
    if importlib.util.find_spec("trackers"):
        trackers |= {f"{name} (trackers)": follow_others(name) for name in ("ByteTrack", "OC-SORT", "SORT")}
    trackers["overlap with the last frame"] = follow_overlap
    print(
        "| tracker | switches | IDF1 per visit | IDF1 | identities (visits) | frames a second |\n"
        "|---|---|---|---|---|---|"
    )
    for name, follow in trackers.items():
        told = measure(films, options.fps, follow)
        rate = told.frames / max(told.seconds, 1e-9)
        cells = (
            name,
            told.switches,
            f"{told.idf1_visits:.3f}",
            f"{told.idf1:.3f}",
            f"{told.identities} ({told.visits})",
        )
        print(f"| {' | '.join(map(str, cells))} | {rate:.0f} |", flush=True)


if __name__ == "__main__":
    main()
