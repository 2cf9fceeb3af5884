"""How keypoints are graded: what train, validate and export share, so that a figure means the same everywhere."""

from __future__ import annotations

from pathlib import Path

import msgspec
from pydantic import ConfigDict, Field

from keypipe.evaluation.oks import AREA_FACTOR, AreaRule
from keypipe.evaluation.sigmas import SigmaSetting, resolve_sigmas
from keypipe.keypoints.boxes import Array
from keypipe.keypoints.skeleton import Schema
from tasks.grading.sigmas import read_sigmas
from tasks.workspace import params as read


class OksParams(read.Section):
    """The keys of the section ``validate`` that say what OKS is."""

    sigma: SigmaSetting = 0.1
    area_rule: AreaRule = "box"
    area_factor: float = Field(default=AREA_FACTOR, gt=0, le=1)


class GradingParams(OksParams):
    """What other stages read of the section ``validate``."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    conf: float = Field(default=0.25, gt=0, lt=1)


class Grading(msgspec.Struct, frozen=True):
    """How OKS is measured: evaluation sigmas of each class, and what the object's area is."""

    sigmas: dict[str, Array]
    area_rule: AreaRule
    area_factor: float


def to_grading(params: OksParams, schema: Schema, root: Path) -> Grading:
    """Give every keypoint of every class its sigma.

    Args:
        params: what is wanted.
        schema: classes and slots.
        root: the workspace, for the sigmas that were estimated there.

    Raises:
        ConfigError: ``validate.sigma`` does not fit the keypoints.
    """
    sigmas = resolve_sigmas(
        params.sigma,
        schema.slots,
        "validate.sigma",
        measured=read_sigmas(root),
        area_rule=params.area_rule,
        area_factor=params.area_factor,
    )
    by_class = {name: sigmas[schema.slot_indices(name)] for name in schema.class_names}
    return Grading(by_class, params.area_rule, params.area_factor)
