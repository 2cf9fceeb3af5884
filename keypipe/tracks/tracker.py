"""Identities over frames: which object is which one of the frames before.

Two stages, as in ByteTrack (Zhang et al., ECCV 2022): sure objects first, then weak ones, which may go on with an
identity and begin none. What is compared are keypoints as well as boxes, and pairs are chosen together, by SciPy's
``linear_sum_assignment``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from keypipe.keypoints.boxes import Array
from keypipe.tracks.motion import Motion
from keypipe.tracks.options import TrackOptions
from keypipe.tracks.similarity import Objects, empty_objects, join_objects, similarities

_SAME = 0.7
"""An object that is so similar to one that has an identity is a second detection of it, and begins none."""
_TRIAL_FRAMES = 3  # an identity that has not been seen on as many frames as it needs is given up after these


class Tracker:
    """Follows objects from frame to frame; the same frames give the same identities."""

    def __init__(self, options: TrackOptions, n_keypoints: int) -> None:
        self._options = options
        self._n_keypoints = n_keypoints
        self._last = empty_objects(n_keypoints)  # as each identity was last seen
        self._offsets: Array = np.empty((0, 2))  # where its middle was then
        self._motion = Motion()
        self._ids: NDArray[np.int64] = np.empty(0, np.int64)
        self._seen_s: Array = np.empty(0)
        self._hits: NDArray[np.int64] = np.empty(0, np.int64)
        self._missed: NDArray[np.int64] = np.empty(0, np.int64)
        self._now_s: float | None = None
        self._next_id = 1

    def step(self, seconds: float, found: Objects) -> NDArray[np.int64]:
        """Take in a frame.

        Args:
            seconds: its time, later than the last one's; a time that does not rise counts as a millisecond.
            found: its objects, pixels.

        Returns:
            int64 (n,): an identity for each object, from 1; 0 for those that have none.
        """
        self._advance(seconds)
        ids = np.zeros(len(found), np.int64)
        sure = np.flatnonzero(found.scores >= self._options.new_score)
        weak = np.flatnonzero(found.scores < self._options.new_score)
        everybody = np.arange(len(self._ids))
        pairs = self._match(everybody, found, sure)
        # Who was missed on the last frames is in it from the start: others would take its object when it is seen again.
        waiting = np.setdiff1d(everybody, [row for row, _ in pairs])
        pairs += self._match(waiting, found, weak)
        rows = np.array([row for row, _ in pairs], np.intp)
        matched = np.array([index for _, index in pairs], np.intp)
        self._missed += 1
        if len(rows):
            ids[matched] = self._ids[rows]
            self._see(rows, found, matched)
        fresh = self._begin(found, sure[ids[sure] == 0], matched)
        ids[fresh] = self._ids[len(self._ids) - len(fresh) :]
        self._forget()
        return ids

    def _advance(self, seconds: float) -> None:
        if self._now_s is not None:
            seconds = max(seconds, self._now_s + 0.001)
            self._motion.predict(seconds - self._now_s, self._missed > 0)
        self._now_s = seconds

    def _expected(self, rows: NDArray[np.intp]) -> Objects:
        """Return identities as they were last seen, moved to where they should be now."""
        moved = self._motion.centres[rows] - self._offsets[rows]
        last = self._last.take(rows)
        points = last.points.copy()
        points[..., :2] += moved[:, None]
        return Objects(last.class_ids, last.scores, last.boxes_xyxy + np.tile(moved, 2), points)

    def _match(self, rows: NDArray[np.intp], found: Objects, indices: NDArray[np.intp]) -> list[tuple[int, int]]:
        """Pair identities with objects so that the similarities have the largest sum."""
        if not len(rows) or not len(indices):
            return []
        alike = similarities(
            self._expected(rows), self._motion.spreads()[rows], found.take(indices), self._options.sigma
        )
        alike = np.where(alike >= self._options.min_similarity, alike, 0.0)
        first, second = linear_sum_assignment(alike, maximize=True)
        kept = alike[first, second] > 0
        return [(int(rows[a]), int(indices[b])) for a, b in zip(first[kept], second[kept], strict=True)]

    def _see(self, rows: NDArray[np.intp], found: Objects, indices: NDArray[np.intp]) -> None:
        seen = found.take(indices)
        self._motion.update(rows, seen.centres, seen.sizes)
        for name in ("scores", "boxes_xyxy", "points"):
            getattr(self._last, name)[rows] = getattr(seen, name)
        self._offsets[rows] = seen.centres
        self._seen_s[rows] = self._now_s
        self._hits[rows] += 1
        self._missed[rows] = 0

    def _begin(self, found: Objects, left: NDArray[np.intp], matched: NDArray[np.intp]) -> NDArray[np.intp]:
        """Begin identities with sure objects that none goes on with, as the last rows; return which they are."""
        if len(left):
            first = found.take(left)
            others = found.take(matched)
            twice = similarities(first, np.zeros(len(left)), others, self._options.sigma) >= _SAME
            left = left[~twice.any(axis=1)]
        fresh = found.take(left)
        count = len(left)
        self._motion.add(fresh.centres, fresh.sizes)
        self._last = join_objects(self._last, fresh)
        self._offsets = np.concatenate([self._offsets, fresh.centres])
        self._ids = np.concatenate([self._ids, np.arange(self._next_id, self._next_id + count)])
        self._seen_s = np.concatenate([self._seen_s, np.full(count, self._now_s, np.float64)])
        self._hits = np.concatenate([self._hits, np.ones(count, np.int64)])
        self._missed = np.concatenate([self._missed, np.zeros(count, np.int64)])
        self._next_id += count
        return left

    def _forget(self) -> None:
        """Give up identities that have been away too long, or were hardly there."""
        waited = (self._now_s or 0.0) - self._seen_s
        on_trial = (self._hits < self._options.min_frames) & (self._missed > _TRIAL_FRAMES)
        kept = (waited <= self._options.max_gap_s) & ~on_trial
        if kept.all():
            return
        self._motion.keep(kept)
        self._last = self._last.take(kept)
        self._offsets, self._ids, self._seen_s = self._offsets[kept], self._ids[kept], self._seen_s[kept]
        self._hits, self._missed = self._hits[kept], self._missed[kept]
