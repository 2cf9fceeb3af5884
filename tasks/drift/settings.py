"""The section ``drift`` of ``params.yaml``: what is logged of predictions, and when they count as drifted."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from keypipe.drift.log import LogSettings
from tasks.workspace import params as read

LOG = Path("predictions/log")
"""Where a workspace's predictions are logged."""


class DriftParams(read.Section):
    """The section ``drift`` of ``params.yaml``.

    Attributes:
        log: whether ``keypipe serve`` and ``keypipe predict`` log what they predict.
        log_share: of the images that is logged.
        log_mb: what the log takes on the disk at most.
        log_days: how long rows and pictures are kept.
        log_picture_mb: what small pictures take at most; 0: none are kept.
        log_views: whether the mirrored and a smaller image are looked at as well.
        days: length of the window.
        most_images: images of the window that are compared at most.
        splits: what is compared with: splits that the model in use has not learnt from.
        alpha: significance, after the correction for many features.
        effect: Cliff's delta from which a difference counts; 0.33 is called medium, 0.47 large.
        separable: no accuracy is expected where images can be told from the validation side in a larger share of pairs.
        outside: nor where a larger share of keypoints lies outside what the validation side shows.
    """

    log: bool = False
    log_share: float = Field(default=1.0, gt=0, le=1)
    log_mb: float = Field(default=256.0, gt=0)
    log_days: float = Field(default=90.0, gt=0)
    log_picture_mb: float = Field(default=0.0, ge=0)
    log_views: bool = False
    days: float = Field(default=7.0, gt=0)
    most_images: int = Field(default=5000, ge=10)
    splits: list[Literal["val", "test"]] = Field(default=["val", "test"], min_length=1)
    alpha: float = Field(default=0.01, gt=0, lt=1)
    effect: float = Field(default=0.33, ge=0, lt=1)
    separable: float = Field(default=0.8, gt=0.5, le=1)
    outside: float = Field(default=0.2, ge=0, le=1)


def read_drift(root: Path) -> DriftParams:
    """Read the section; one that is absent is one of defaults.

    Raises:
        ConfigError: all that is wrong with it.
    """
    return read.load_section(read.read_params(root), "drift", DriftParams)


def read_log_settings(root: Path, wanted: bool | None = None) -> LogSettings | None:
    """Return where and how much a workspace's predictions are logged; None: not at all.

    Args:
        root: the workspace.
        wanted: what the command line says; None: as ``drift.log`` does.

    Raises:
        ConfigError: all that is wrong with the section.
    """
    params = read_drift(root)
    if not (params.log if wanted is None else wanted):
        return None
    return LogSettings(
        root / LOG,
        share=params.log_share,
        mb=params.log_mb,
        days=params.log_days,
        picture_mb=params.log_picture_mb,
        views=params.log_views,
    )
