from __future__ import annotations

import math

import numpy as np
import pytest

from keypipe.errors import ConfigError
from keypipe.tracks.options import SmoothOptions
from keypipe.tracks.smoothing import OneEuro


def smooth(values: list[float], options: SmoothOptions, step: float = 0.04, size: float = 100.0) -> list[float]:
    one = OneEuro(options, 1)
    return [float(one(number * step, np.array([value]), size)[0]) for number, value in enumerate(values)]


def reference(values: list[float], options: SmoothOptions, step: float, size: float) -> list[float]:
    """The algorithm as its authors print it, value by value."""

    def weight(cutoff: float) -> float:
        return 1 / (1 + 1 / (2 * math.pi * cutoff * step))

    last, speed, out = values[0], 0.0, [values[0]]
    for value in values[1:]:
        speed += weight(options.speed_cutoff_hz) * ((value - last) / step - speed)
        last += weight(options.min_cutoff_hz + options.beta * abs(speed) / size) * (value - last)
        out.append(last)
    return out


def test_as_its_authors_print_it() -> None:
    values = np.random.default_rng(0).normal(50, 5, 40).cumsum().tolist()
    options = SmoothOptions(1.5, 3.0, 0.8)
    np.testing.assert_allclose(smooth(values, options), reference(values, options, 0.04, 100.0))


def test_rest_is_steadier_and_motion_is_followed() -> None:
    rng = np.random.default_rng(1)
    rest = (100 + rng.normal(0, 2, 200)).tolist()
    assert np.std(smooth(rest, SmoothOptions(1.0))[50:]) < 0.6 * np.std(rest[50:])
    run = [100.0 + 20 * number for number in range(50)]  # five sizes a second
    assert run[-1] - smooth(run, SmoothOptions(1.0))[-1] < 25


def test_what_is_not_known_stays_so_and_a_long_absence_begins_anew() -> None:
    one = OneEuro(SmoothOptions(1.0), 2)
    one(0.0, np.array([0.0, 0.0]), 10.0)
    assert np.isnan(one(0.04, np.array([math.nan, 1.0]), 10.0)).tolist() == [True, False]
    assert one(2.0, np.array([50.0, 50.0]), 10.0).tolist() == [50.0, 50.0]


def test_a_cutoff_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="above 0 Hz"):
        SmoothOptions(0.0)
