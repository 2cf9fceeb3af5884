from __future__ import annotations

from itertools import pairwise

import pytest

from keypipe.report.charts import lay_out_lines, lay_out_skeleton, nice_ticks
from keypipe.report.page import LineChart, SkeletonDot, SkeletonPlot


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.5, 1]),
        (1, 60, [0, 20, 40, 60]),
        (0.93, 4.2, [0, 1, 2, 3, 4, 5]),
        (0.0001, 0.01, [0, 0.005, 0.01]),
        (3, 3, [3]),
        (-2, 2, [-2, -1, 0, 1, 2]),
    ],
)
def test_ticks(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == ticks


def test_curves_break_at_gaps() -> None:
    chart = LineChart("t", [1, 2, 3, 4], {"a": [0, 1, None, 1], "b": [0.5, 0.5, 0.5, 0.5]}, y_range=(0, 1))
    layout = lay_out_lines(chart)
    assert layout.curves[0].path == "M0.00 100.00L33.33 0.00M100.00 0.00h0.01"
    assert layout.curves[1].path.count("M") == 1
    assert [curve.last for curve in layout.curves] == [1, 0.5]


def test_names_in_the_margin_do_not_run_into_each_other() -> None:
    dots = [SkeletonDot(f"k{i}", (0.1 + 0.01 * i, 0.3), 0.01, 0.05, "1 px", "#000000") for i in range(9)]
    layout = lay_out_skeleton(SkeletonPlot("", (0.8, 0.6), dots, [(0, 8)]))
    for anchor in ("start", "end"):
        ys = sorted(name.xy[1] for name in layout.names if name.anchor == anchor)
        assert len(ys) >= 4
        assert all(after - before >= 53.9 for before, after in pairwise(ys))
        assert layout.view[1] < ys[0] < ys[-1] < layout.view[1] + layout.view[3]
    assert layout.lines == "M100.0 300.0L180.0 300.0"
    assert layout.circles[0].outer == 50


def test_a_circle_larger_than_the_object_does_not_make_the_picture_larger() -> None:
    small, huge = (
        lay_out_skeleton(SkeletonPlot("", (0.8, 0.6), [SkeletonDot("nose", (0.4, 0.3), r, r, "", "#000000")]))
        for r in (0.01, 5.0)
    )
    assert huge.view[2] == small.view[2]
    assert huge.view[3] <= 2 * small.view[3]
