"""The rules of the gate: which challenger may take the champion's place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from keypipe.errors import ConfigError
from keypipe.splits.power import MARGIN


class RuleError(ConfigError, ValueError):
    """A rule has a value that it cannot have; a ``ValueError``, so that pydantic says on which line it stands."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The section ``retrain.gate`` of ``params.yaml``; docs/retraining.md gives the reasons for the defaults.

    Attributes:
        test: ``non-inferior``: the challenger may be worse by less than the margin; ``superior``: it must be better.
        margin_ap: how much OKS AP may be lost.
        margin_close: how much of the close-keypoint share may be lost.
        no_creep: whether the challenger must keep the margins against the best model that was ever champion, too.
        veto_drop: a keypoint's close share, or a class's OKS AP, that is shown to have fallen by more than this is a
            veto; None: no vetoes.
        floor_ap: OKS AP that the first champion must exceed.
        floor_close: close-keypoint share that the first champion must exceed.
        ece_rise: by how much the expected calibration error of the keypoint confidence may exceed the champion's; None:
            by any.
        parity: whether the exported file must be proven to say what the trained model says.
        latency_ms: largest median time of an image; None: any.
        size_mb: largest size of the exported file, 10^6 bytes; None: any.
        doctor: whether errors that the doctor finds in the data stop a promotion.
        approval: ``none``, or ``required``: a person has the last word on every promotion.
        approvers: who may be asked, also where the gate cannot decide.
        stale_after: after so many judgements the same test split is called stale.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    test: Literal["non-inferior", "superior"] = "non-inferior"
    margin_ap: float = MARGIN
    margin_close: float = MARGIN
    no_creep: bool = True
    veto_drop: float | None = 0.05
    floor_ap: float = 0.3
    floor_close: float = 0.5
    ece_rise: float | None = 0.05
    parity: bool = True
    latency_ms: float | None = None
    size_mb: float | None = None
    doctor: bool = True
    approval: Literal["none", "required"] = "none"
    approvers: tuple[str, ...] = ()
    stale_after: int = 50

    def __post_init__(self) -> None:
        shares = ("margin_ap", "margin_close", "veto_drop", "floor_ap", "floor_close", "ece_rise")
        limits = ("latency_ms", "size_mb", "stale_after")
        problems = [
            f"{name}: should be {expected}, got {value:g}"
            for name in (*shares, *limits)
            if (value := getattr(self, name)) is not None
            for expected, fits in [_expected(name, value, name in shares)]
            if not fits
        ]
        if problems:
            raise RuleError("; ".join(problems))


def _expected(name: str, value: float, is_share: bool) -> tuple[str, bool]:
    if name.startswith("margin"):
        return "above 0 and below 1", 0 < value < 1
    if is_share:
        return "0 to below 1", 0 <= value < 1
    return "above 0", value > 0
