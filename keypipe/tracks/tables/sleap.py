"""SLEAP's analysis file: arrays in HDF5, as ``sleap-convert --format analysis`` and sleap-io write them.

``tracks`` is (track, xy, node, frame), ``track_occupancy`` (frame, track), ``point_scores`` (track, node, frame),
``instance_scores`` and ``tracking_scores`` (track, frame); https://io.sleap.ai describes it. It is written by h5py in
pieces, and not by sleap-io, which would have to hold every frame as objects. sleap-io reads it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keypipe.errors import needs_extra
from keypipe.keypoints.boxes import Array
from keypipe.tracks.following import TrackedFrame
from keypipe.tracks.tables.head import TableHead

_VALUES_AT_ONCE = 1_000_000  # places that are held until they are written


class SleapAnalysis:
    """The file; nodes are the keypoints of all classes, and an individual is NaN in those that its class lacks."""

    def __init__(self, path: Path, head: TableHead) -> None:
        with needs_extra("h5py", "sleap"):
            import h5py
        self._slots = {name: slot for slot, name in enumerate(head.schema.slots)}
        self._rows = {track.track: row for row, track in enumerate(head.tracks)}
        self._file: Any = h5py.File(path, "w")
        n_tracks, n_nodes, n_frames = len(head.tracks), len(self._slots), head.n_frames
        self._at_once = max(1, min(2000, n_frames, _VALUES_AT_ONCE // max(1, n_tracks * n_nodes)))
        self._make("tracks", (n_tracks, 2, n_nodes, n_frames), ("track", "xy", "node", "frame"))
        self._make("point_scores", (n_tracks, n_nodes, n_frames), ("track", "node", "frame"))
        self._make("instance_scores", (n_tracks, n_frames), ("track", "frame"))
        self._make("tracking_scores", (n_tracks, n_frames), ("track", "frame"))
        self._make("track_occupancy", (n_frames, n_tracks), ("frame", "track"), "u1")
        self._write_names(head)
        self._start, self._last, self._pieces = 0, 0, self._empty()

    def _make(self, name: str, shape: Sequence[int], dims: Sequence[str], kind: str = "f8") -> None:
        # A piece of time is one chunk, so that a chunk is written once.
        chunks = tuple(self._at_once if dim == "frame" else size for dim, size in zip(dims, shape, strict=True))
        fill = 0 if kind == "u1" else math.nan
        whole = 0 not in shape
        data = self._file.create_dataset(
            name, shape, kind, fillvalue=fill, chunks=chunks if whole else None, compression="gzip" if whole else None
        )
        data.attrs["dims"] = json.dumps(list(dims))

    def _write_names(self, head: TableHead) -> None:
        slots = head.schema.slots
        edges = [(slots[first], slots[second]) for first, second in head.schema.edges]
        pairs = {frozenset((slots[i], slots[j])) for i, j in enumerate(head.schema.flip_idx) if i < j}
        texts = {
            "track_names": [name.encode() for name in head.individuals.values()],
            "node_names": [name.encode() for name in slots],
            "edge_names": [[name.encode() for name in edge] for edge in edges],
        }
        for name, values in texts.items():
            self._file.create_dataset(name, data=np.array(values, dtype="S") if values else np.empty(0, "S1"))
        self._file.create_dataset("edge_inds", data=np.array(head.schema.edges, np.int64).reshape(-1, 2))
        self._file.create_dataset("labels_path", data="")
        self._file.create_dataset("video_path", data=head.video)
        self._file.create_dataset("video_ind", data=0)
        self._file.create_dataset("provenance", data=head.about)
        self._file.attrs.update(
            {
                "preset": "matlab",
                "format": "analysis",
                "skeleton_name": ", ".join(head.schema.classes),
                "skeleton_symmetries": json.dumps(sorted(sorted(pair) for pair in pairs)),
                "video_backend_metadata": "{}",
            }
        )

    def _empty(self) -> dict[str, Array]:
        n_tracks, n_nodes = len(self._rows), len(self._slots)
        return {
            "tracks": np.full((n_tracks, 2, n_nodes, self._at_once), np.nan),
            "point_scores": np.full((n_tracks, n_nodes, self._at_once), np.nan),
            "instance_scores": np.full((n_tracks, self._at_once), np.nan),
        }

    def write(self, frame: TrackedFrame) -> None:
        """Add the next frame."""
        if frame.frame - self._start >= self._at_once:
            self._flush(self._at_once)
        at = frame.frame - self._start
        for item in frame.predictions:
            row, nodes = self._rows[item.track], [self._slots[point.name] for point in item.keypoints]
            places = np.array([(point.x, point.y, point.confidence) for point in item.keypoints])
            self._pieces["tracks"][row, :, nodes, at] = places[:, :2]
            self._pieces["point_scores"][row, nodes, at] = places[:, 2]
            self._pieces["instance_scores"][row, at] = item.score
        self._last = at + 1

    def close(self) -> None:
        """Write what is left, and close the file."""
        try:
            self._flush(self._last)
        finally:
            self._file.close()

    def _flush(self, count: int) -> None:
        if count and self._rows:
            until = self._start + count
            for name, values in self._pieces.items():
                self._file[name][..., self._start : until] = values[..., :count]
            scores = self._pieces["instance_scores"][:, :count]
            # A tracker of boxes and keypoints has no score of its own; SLEAP's has 0 where it gives none.
            self._file["tracking_scores"][:, self._start : until] = np.where(np.isnan(scores), np.nan, 0.0)
            self._file["track_occupancy"][self._start : until] = np.isfinite(scores).T
        self._start, self._last, self._pieces = self._start + count, 0, self._empty()
