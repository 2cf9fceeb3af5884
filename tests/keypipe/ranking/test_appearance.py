from __future__ import annotations

import numpy as np

from keypipe.ranking.appearance import describe_appearance, pick_spread


def scene(seed: int) -> np.ndarray:
    """Return an image of a few coloured patches."""
    rng = np.random.default_rng(seed)
    image = np.zeros((96, 128, 3), np.uint8)
    for _ in range(12):
        x, y = rng.integers(0, 100), rng.integers(0, 70)
        image[y : y + 40, x : x + 40] = rng.integers(0, 255, 3)
    return image


def film(seed: int, n: int) -> np.ndarray:
    """Return what the frames of a scene look like: the same picture with noise."""
    rng = np.random.default_rng(seed)
    base = scene(seed).astype(int)
    frames = [np.clip(base + rng.integers(-8, 9, base.shape), 0, 255).astype(np.uint8) for _ in range(n)]
    return np.array([describe_appearance(frame) for frame in frames])


def test_fifty_neighbours_of_one_frame_are_not_shown() -> None:
    others = np.array([describe_appearance(scene(seed)) for seed in range(1, 31)])
    looks = np.concatenate([film(0, 50), others])
    scores = np.concatenate([np.ones(50), np.linspace(0.4, 0.6, 30)])  # every neighbour would teach more than any other
    chosen = pick_spread(scores, looks, 20)
    assert chosen[0] < 50
    assert sum(index < 50 for index in chosen) <= 2
    assert len(set(chosen)) == 20


def test_where_all_look_different_the_score_decides() -> None:
    looks = np.array([describe_appearance(scene(seed)) for seed in range(40)])
    scores = np.linspace(0, 1, 40)
    far_apart = pick_spread(scores, looks, 10)
    assert np.mean(far_apart) > 25


def test_what_is_known_already_is_not_shown_again() -> None:
    looks = np.concatenate([film(0, 5), np.array([describe_appearance(scene(seed)) for seed in range(1, 6)])])
    assert 0 not in {index // 5 for index in pick_spread(np.ones(10), looks, 4, known=film(0, 3))}


def test_few_and_equal_images() -> None:
    same = np.zeros((3, 432), np.uint8)
    assert sorted(pick_spread(np.ones(3), same, 5)) == [0, 1, 2]
    assert pick_spread(np.ones(1), same[:1], 1) == [0]
    assert pick_spread(np.zeros(0), same[:0], 4) == []
