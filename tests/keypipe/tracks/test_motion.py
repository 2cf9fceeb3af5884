from __future__ import annotations

import numpy as np

from keypipe.tracks.motion import Motion


def test_a_steady_walk_is_foreseen() -> None:
    motion = Motion()
    motion.add(np.array([[0.0, 10.0]]), np.array([30.0]))
    for step in range(1, 30):
        motion.predict(0.04, np.array([False]))
        motion.update(np.array([0]), np.array([[2.0 * step, 10.0]]), np.array([30.0]))
    motion.predict(0.04, np.array([False]))
    np.testing.assert_allclose(motion.centres, [[60.0, 10.0]], atol=0.3)
    np.testing.assert_allclose(motion.speeds, [[50.0, 0.0]], atol=2)


def test_what_is_not_seen_grows_less_sure_and_comes_to_rest() -> None:
    motion = Motion()
    motion.add(np.array([[0.0, 0.0]]), np.array([30.0]))
    motion.speeds[:] = [[100.0, 0.0]]
    spreads = []
    for _ in range(100):
        motion.predict(0.1, np.array([True]))
        spreads.append(motion.spreads()[0])
    assert (np.diff(spreads) > 0).all()
    assert motion.centres[0, 0] < 150  # a second's way, and not ten
    assert abs(motion.speeds[0, 0]) < 0.1


def test_half_the_time_twice_is_the_same_as_all_of_it() -> None:
    once, twice = Motion(), Motion()
    for motion, steps in ((once, [0.2]), (twice, [0.1, 0.1])):
        motion.add(np.array([[3.0, 4.0]]), np.array([20.0]))
        motion.speeds[:] = [[10.0, -5.0]]
        for step in steps:
            motion.predict(step, np.array([False]))
    np.testing.assert_allclose(once.centres, twice.centres)
    np.testing.assert_allclose(once.spreads(), twice.spreads())


def test_rows_are_kept_and_forgotten() -> None:
    motion = Motion()
    motion.add(np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]), np.array([10.0, 20.0, 30.0]))
    motion.keep(np.array([True, False, True]))
    assert motion.centres.tolist() == [[0, 0], [2, 2]]
    assert len(motion.spreads()) == 2
