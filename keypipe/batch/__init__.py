"""Predictions on files: pictures, folders and videos, drawn and as JSON."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.batch.prediction import Summary, predict
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        prediction=(
            "Summary",
            "predict",
        ),
    )

__all__ = ["Summary", "predict"]
