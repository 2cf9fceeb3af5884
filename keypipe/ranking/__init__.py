"""Which images to annotate next: what a model makes of them, and how they look."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.ranking.appearance import describe_appearance, pick_spread
    from keypipe.ranking.looks import Look, look_at, score_looks
    from keypipe.ranking.views import Views, predict_views
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        appearance=(
            "describe_appearance",
            "pick_spread",
        ),
        looks=(
            "Look",
            "look_at",
            "score_looks",
        ),
        views=(
            "Views",
            "predict_views",
        ),
    )

__all__ = [
    "Look",
    "Views",
    "describe_appearance",
    "look_at",
    "pick_spread",
    "predict_views",
    "score_looks",
]
