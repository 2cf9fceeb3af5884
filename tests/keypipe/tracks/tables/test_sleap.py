"""SLEAP's analysis file, as sleap-io and h5py read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.keypipe.tracks.tables.films import written


def test_sleap_io_reads_it(tmp_path: Path) -> None:
    sleap_io: Any = pytest.importorskip("sleap_io", reason="needs sleap-io: pip install 'keypipe[sleap]'")
    with written(tmp_path, "sleap", n_frames=30) as (path, frames):
        labels = sleap_io.load_file(str(path))
        assert [track.name for track in labels.tracks] == ["cow1", "cow2", "dog3"]
        assert labels.skeletons[0].node_names == ["nose", "tail"]
        assert [(edge.source.name, edge.destination.name) for edge in labels.skeletons[0].edges] == [("nose", "tail")]
        found = {(frame.frame_idx, one.track.name): one for frame in labels for one in frame.instances}
        expected = {(f.frame, f"{item.class_name}{item.track}"): item for f in frames for item in f.predictions}
        assert found.keys() == expected.keys()
        for key, item in expected.items():
            points, instance = found[key].numpy(), found[key]
            for node, point in zip(("nose", "tail"), item.keypoints, strict=False):
                row = ["nose", "tail"].index(node)
                assert points[row].tolist() == [point.x, point.y]
            assert instance.score == pytest.approx(item.score)


@pytest.mark.parametrize("at_once", [1_000_000, 12])
def test_the_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    h5py: Any = pytest.importorskip("h5py", reason="needs h5py: pip install 'keypipe[sleap]'")
    monkeypatch.setattr("keypipe.tracks.tables.sleap._VALUES_AT_ONCE", at_once)
    with written(tmp_path, "sleap") as (path, frames), h5py.File(path) as file:
        assert file["tracks"].shape == (3, 2, 2, 12)
        occupied = np.zeros((12, 3), bool)
        for frame in frames:
            for item in frame.predictions:
                occupied[frame.frame, item.track - 1] = True
                for node, point in enumerate(item.keypoints):
                    assert file["tracks"][item.track - 1, :, node, frame.frame].tolist() == [point.x, point.y]
                    assert file["point_scores"][item.track - 1, node, frame.frame] == point.confidence
        np.testing.assert_array_equal(file["track_occupancy"][:], occupied)
        np.testing.assert_array_equal(np.isfinite(file["instance_scores"][:]).T, occupied)
        assert np.isnan(file["tracks"][2, :, 1]).all()  # a dog has no tail here
