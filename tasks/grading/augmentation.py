"""``train.augmentation``: how strongly images are changed before the network sees them, from epoch to epoch.

Augmentation shows every image a little larger, elsewhere, in other colours. With few steps that is more than can be
learnt; with many it is what keeps a network from learning the images by heart. So its strength may rise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from tasks.workspace.params import Section

STRENGTHS = {"light": 0.4, "strong": 1.0}
"""Strengths that have a name. Strong is what the arguments say; light was measured, see docs/training.md."""

EXTENTS = ("degrees", "translate", "scale", "shear", "perspective", "hsv_h", "hsv_s", "hsv_v")
"""Train arguments that say how far an image is changed at most; 0 is not at all."""

CHANCES = ("mosaic", "mixup", "cutmix")
"""Train arguments that say how likely images are put together. Mirroring stays: it changes what is left and right, and
a mirrored image is no harder than the other."""

_EXPECTED = "expected light, strong, a number from 0 to 1, or {from: …, to: …, over: …} of these with 0 < over <= 1"


Strength = Literal["light", "strong"] | Annotated[float, Field(ge=0, le=1)]


class StrengthSchedule(Section):
    """A strength that moves in a straight line from one value to another, and stays there.

    Attributes:
        start: ``from``, of the first epoch.
        end: ``to``.
        over: share of the planned epochs after which it has arrived.
    """

    start: Strength = Field(alias="from")
    end: Strength = Field(alias="to")
    over: float = Field(default=0.5, gt=0, le=1)


def _in_one_line(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Say what is expected once, instead of once for each form that a value might have had."""
    try:
        return handler(value)
    except ValidationError as error:
        raise ValueError(_EXPECTED) from error


Augmentation = Annotated[Strength | StrengthSchedule, WrapValidator(_in_one_line)]

DEFAULT_AUGMENTATION: Strength = "strong"
"""The arguments as they are, from the first epoch to the last."""


def _to_number(value: Strength) -> float:
    return STRENGTHS[value] if isinstance(value, str) else value


class StrengthCourse:
    """The strength of every epoch.

    Attributes:
        first: that of the first epoch, 0 to 1.
        last: the one that the training ends with.
        over: share of the planned epochs after which it has arrived; 0 where nothing changes.
    """

    def __init__(self, value: Strength | StrengthSchedule = DEFAULT_AUGMENTATION) -> None:
        if isinstance(value, StrengthSchedule):
            self.first, self.last, self.over = _to_number(value.start), _to_number(value.end), value.over
        else:
            self.first = self.last = _to_number(value)
            self.over = 0.0

    @property
    def changes(self) -> bool:
        """Whether any epoch differs from another."""
        return self.first != self.last

    @property
    def is_full(self) -> bool:
        """Whether every epoch takes the arguments as they are."""
        return self.first == self.last == 1

    def settles(self, epochs: int) -> int:
        """Return the first epoch, from 0, that is as strong as the last of so many."""
        return min(math.ceil(self.over * epochs), epochs - 1)

    def at(self, epoch: int, epochs: int) -> float:
        """Return the strength of an epoch, 0 to 1.

        Args:
            epoch: from 0.
            epochs: planned epochs.
        """
        done = min(epoch / (self.over * epochs), 1.0) if self.over else 1.0
        return self.first + (self.last - self.first) * done if done < 1 else self.last


def weaken(arguments: Mapping[str, Any], strength: float) -> dict[str, Any]:
    """Return the train arguments of augmentation at a strength.

    Args:
        arguments: Ultralytics' train arguments; those that have nothing to do with it are left out.
        strength: 0 to 1; 1 leaves the arguments as they are.
    """
    found: dict[str, Any] = {}
    for name in (*EXTENTS, *CHANCES):
        value = arguments.get(name)
        if isinstance(value, list | tuple):  # ``scale`` as the smallest and the largest factor
            found[name] = tuple(1 + strength * (factor - 1) for factor in value)
        elif value:
            found[name] = strength * value
    return found
