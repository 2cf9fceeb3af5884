from __future__ import annotations

from typing import Any

import pytest

from keypipe.report.formatting import common_decimals, format_cell


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        ("<b>", None, "<b>"),
        (None, None, "–"),
        (float("nan"), 3, "–"),
        (True, None, "yes"),
        (1234567, None, "1\u2009234\u2009567"),
        (0.871234, None, "0.8712"),
        (0.5, 3, "0.500"),
        (12345.6, None, "12\u2009346"),
        (12345.6, 1, "12\u2009345.6"),
        (float("inf"), None, "inf"),
        (1e-7, None, "1e-07"),
    ],
)
def test_cells(value: Any, decimals: int | None, text: str) -> None:
    assert format_cell(value, decimals) == text


@pytest.mark.parametrize(
    ("values", "decimals"),
    [([1, 2, None], None), ([0.1, 0.95], 3), ([1.5, 20.25], 1), ([1234.5], 0), ([1e-9], 6), ([0.0], 1), ([], None)],
)
def test_decimals_of_a_column(values: list[float | None], decimals: int | None) -> None:
    assert common_decimals(values) == decimals
