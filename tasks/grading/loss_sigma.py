"""``train.loss_sigma``: how sharply the pose loss looks at a keypoint, and how that changes during training.

The pose loss of a keypoint is ``1 - exp(-d**2 / (2 * area * (2 * sigma)**2))``, one minus its OKS. Its gradient
vanishes for keypoints much further off than ``2 * sigma`` times the object's size, and is blind to the last pixels of
those much nearer. A sigma that shrinks brings all of them along first and sharpens them then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from ruamel.yaml.comments import CommentedMap

from keypipe.dataset.yolo import expand_sigmas
from tasks.workspace.params import Section, load_section

NAME = "train.loss_sigma"


class SigmaSchedule(Section):
    """A sigma that moves in a straight line from one value to another, and stays there.

    Attributes:
        start: ``from``, of the first epoch; one for all keypoints, or a list in slot order.
        end: ``to``, likewise.
        over: share of the planned epochs after which it has arrived.
    """

    start: float | list[float] = Field(alias="from")
    end: float | list[float] = Field(alias="to")
    over: float = Field(default=0.5, gt=0, le=1)


def _in_one_line(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Say what is expected once, instead of once for each form that a value might have had."""
    try:
        return handler(value)
    except ValidationError as error:
        raise ValueError(
            "expected a number, a list of numbers, or {from: …, to: …, over: …} with 0 < over <= 1"
        ) from error


LossSigma = Annotated[float | list[float] | SigmaSchedule, WrapValidator(_in_one_line)]

DEFAULT_LOSS_SIGMA = SigmaSchedule.model_validate({"from": 0.333, "to": 0.1, "over": 0.5})
"""The best of those measured, see docs/training.md."""


class SigmaCourse:
    """The sigmas of every epoch.

    Attributes:
        first: float64 (n_slots,), those of the first epoch.
        last: float64 (n_slots,), those that the training ends with.
        over: share of the planned epochs after which they have arrived; 0 where nothing changes.
    """

    def __init__(self, value: float | Sequence[float] | SigmaSchedule, n_slots: int) -> None:
        """Give every slot its course.

        Raises:
            ConfigError: a list of another length, or a value that is not above zero.
        """
        if isinstance(value, SigmaSchedule):
            self.first = expand_sigmas(value.start, n_slots, f"{NAME}.from")
            self.last = expand_sigmas(value.end, n_slots, f"{NAME}.to")
            self.over = value.over
        else:
            self.first = self.last = expand_sigmas(value, n_slots, NAME)
            self.over = 0.0

    def at(self, epoch: int, epochs: int) -> NDArray[np.float64]:
        """Return the sigmas of an epoch.

        Args:
            epoch: from 0.
            epochs: planned epochs.

        Returns:
            float64 (n_slots,).
        """
        done = min(epoch / (self.over * epochs), 1.0) if self.over else 1.0
        return self.first + (self.last - self.first) * done if done < 1 else self.last


class TrainSigma(Section):
    """What other stages read of the section ``train``."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    loss_sigma: LossSigma = DEFAULT_LOSS_SIGMA


def read_final_sigmas(document: CommentedMap, n_slots: int) -> NDArray[np.float64]:
    """Return the sigmas that a training ends with, which ``data.yaml`` carries.

    Args:
        document: the whole ``params.yaml``.
        n_slots: number of keypoint slots.

    Returns:
        float64 (n_slots,).

    Raises:
        ConfigError: ``train.loss_sigma`` is none.
    """
    return SigmaCourse(load_section(document, "train", TrainSigma).loss_sigma, n_slots).last
