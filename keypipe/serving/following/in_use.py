"""The model that answers, and what is known of where it came from."""

from __future__ import annotations

import msgspec

from keypipe.serving.model import ServedModel


class Following(msgspec.Struct, frozen=True):
    """How a server stands with the alias that it follows.

    Attributes:
        ref: what is followed, such as ``models:/cows@champion``.
        wanted: the version that was named when the registry answered last; empty where there was none.
        problem: why that version is not in use; empty if it is.
        away: why the registry does not answer; empty if it does.
        answered: when it answered last, seconds since the epoch.
        note: what one should know of the last switch, such as another schema.
        switches: versions that were put into use after the first.
        failures: tries to put one into use that came to nothing.
        from_cache: the registry has not answered since the server started with what was in use here last.
    """

    ref: str
    wanted: str
    problem: str = ""
    away: str = ""
    answered: float = 0.0
    note: str = ""
    switches: int = 0
    failures: int = 0
    from_cache: bool = False

    @property
    def is_well(self) -> bool:
        """Whether the version in use is known to be the one that is meant."""
        return not (self.problem or self.away)


class InUse:
    """The model that answers now. Another may take its place at any time: take it once, and use that.

    Attributes:
        model: the model.
        following: how it stands with the registry; None for a model that stays.
    """

    def __init__(self, model: ServedModel, following: Following | None = None) -> None:
        self.model = model
        self.following = following
