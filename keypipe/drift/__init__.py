"""What predictions on new images tell: a log of them, drift against the validation side, and expected accuracy."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.drift.closeness import Expected, expect, learn_closeness
    from keypipe.drift.comparison import Comparison, compare
    from keypipe.drift.log import LogSettings, PredictionLog
    from keypipe.drift.rows import Row
    from keypipe.drift.segments import read_window
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        closeness=("Expected", "expect", "learn_closeness"),
        comparison=("Comparison", "compare"),
        log=("LogSettings", "PredictionLog"),
        rows=("Row",),
        segments=("read_window",),
    )

__all__ = [
    "Comparison",
    "Expected",
    "LogSettings",
    "PredictionLog",
    "Row",
    "compare",
    "expect",
    "learn_closeness",
    "read_window",
]
