from __future__ import annotations

import pytest

from benchmarks.doctor import measure

# Kinds that are estimated from shapes or pictures; everything else is always found.
LEAST_RECALL = {
    ("keypoint-outlier", ">0.20"): 0.9,
    ("keypoint-outlier", "0.00-0.20"): 0.6,
    ("left-right-swap", ">0.05"): 0.8,
    ("left-right-swap", "0.00-0.05"): 0.0,
    ("left-right-swap", "all pairs"): 0.95,
    ("exchanged-keypoints", ">0.10"): 0.8,
    ("exchanged-keypoints", "0.00-0.10"): 0.0,
    ("near-duplicate-image", ""): 0.9,
    ("near-duplicate-across-sides", ""): 0.9,
    ("transformed-copy-across-sides", "relit"): 0.85,
}


@pytest.mark.benchmark
def test_seeded_faults_are_found_and_sound_files_left_alone() -> None:
    tallies = measure(n_images=300, per_kind=25, seed=0)
    for key, tally in tallies.items():
        if tally.seeded:
            assert tally.right_shape / tally.seeded >= LEAST_RECALL.get(key, 0.95), key
    assert sum(tally.false_alarms for tally in tallies.values()) <= 3
