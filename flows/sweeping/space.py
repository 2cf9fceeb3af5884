"""What a sweep tries: values of keys of ``train``, as people write them, and as Optuna has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from keypipe.errors import ConfigError
from tasks.workspace.documents import format_value, parse_yaml

SECTION = "train"
OBJECTIVE = "best_by"
_LOG = "log:"
_EXAMPLES = "train.lr0=log:0.001..0.01, train.mosaic=0..1, train.batch=8|16|32"
_EXPECTED = f"expected KEY=LOW..HIGH, KEY=log:LOW..HIGH or KEY=A|B|C, such as {_EXAMPLES}"

Value = str | int | float | bool | None


class Dimension(msgspec.Struct, frozen=True):
    """A key and the values that it may have: a range, or a list.

    Attributes:
        key: such as ``train.lr0``.
        low: least value of a range, tried as well; whole numbers alone where both ends are whole.
        high: greatest value of a range, tried as well.
        log: ten times as much is as far everywhere in the range.
        choices: the values of a list; empty for a range.
    """

    key: str
    low: int | float = 0
    high: int | float = 0
    log: bool = False
    choices: tuple[Value, ...] = ()

    def holds(self, value: Any) -> bool:
        """Tell whether a value is among those that are tried."""
        if self.choices:
            return any(value == choice and type(value) is type(choice) for choice in self.choices)
        kinds = int if isinstance(self.low, int) else int | float
        return isinstance(value, kinds) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        """Return it as it is written on the command line."""
        if self.choices:
            return f"{self.key}={'|'.join(map(format_value, self.choices))}"
        return f"{self.key}={_LOG if self.log else ''}{self.low}..{self.high}"


def parse_space(texts: Sequence[str]) -> tuple[Dimension, ...]:
    """Read what is to be tried.

    Args:
        texts: such as ``train.lr0=log:0.001..0.01``.

    Raises:
        ConfigError: one cannot be read, is no key of ``train``, or is there twice.
    """
    dimensions = tuple(map(_parse, texts))
    keys = [dimension.key for dimension in dimensions]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{key} is there twice; name all its values at once")
    return dimensions


def _parse(text: str) -> Dimension:
    key, equals, values = (part.strip() for part in text.partition("="))
    if not equals or not values:
        raise ConfigError(f"{text}: {_EXPECTED}")
    _check_key(key)
    if ".." in values:
        return _parse_range(text, key, values)
    choices = tuple(_read(text, one) for one in values.split("|"))
    if len(choices) < 2:
        raise ConfigError(f"{text}: one value leaves nothing to try; give several (A|B), or use --set {text}")
    if len({(type(one), one) for one in choices}) < len(choices):
        raise ConfigError(f"{text}: a value is there twice")
    return Dimension(key, choices=choices)


def _check_key(key: str) -> None:
    section, dot, name = key.partition(".")
    if section != SECTION or not dot or not name or "." in name:
        raise ConfigError(
            f"{key}: a sweep tries keys of {SECTION} alone, such as {SECTION}.lr0: trials with other images, splits or"
            " measures could not be compared"
        )
    if name == OBJECTIVE:
        raise ConfigError(f"{key} is what trials are compared by; set it once with `--set {key}=…`")


def _parse_range(text: str, key: str, values: str) -> Dimension:
    log = values.startswith(_LOG)
    ends = [_read_number(text, end) for end in values.removeprefix(_LOG).split("..")]
    if len(ends) != 2:
        raise ConfigError(f"{text}: {_EXPECTED}")
    low, high = ends if all(isinstance(end, int) for end in ends) else map(float, ends)
    if not low < high:
        raise ConfigError(f"{text}: the first number must be less than the second")
    if log and low <= 0:
        raise ConfigError(f"{text}: a logarithmic range begins above 0")
    return Dimension(key, low, high, log)


def _read_number(text: str, value: str) -> int | float:
    found = _read(text, value)
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise ConfigError(f"{text}: {_EXPECTED}")
    return found


def _read(text: str, value: str) -> Value:
    """Read a value as ``params.yaml`` would have it; lists and sections are none that can be compared."""
    try:
        found = parse_yaml(value.strip(), SECTION)
    except ConfigError as error:
        raise ConfigError(f"{text}: {value!r} is no YAML value") from error
    if isinstance(found, list | dict) or not value.strip():
        raise ConfigError(f"{text}: {value!r} is no single value; {_EXPECTED}")
    return found  # type: ignore[no-any-return]


def draw(trial: Any, space: Sequence[Dimension]) -> dict[str, Value]:
    """Ask Optuna for the values of a trial, by key."""
    return {one.key: _draw(trial, one) for one in space}


def _draw(trial: Any, one: Dimension) -> Value:
    if one.choices:
        return trial.suggest_categorical(one.key, list(one.choices))  # type: ignore[no-any-return]
    if isinstance(one.low, int):
        return int(trial.suggest_int(one.key, one.low, one.high, log=one.log))
    return float(trial.suggest_float(one.key, one.low, one.high, log=one.log))


def find_present(space: Sequence[Dimension], train: Mapping[str, Any]) -> dict[str, Value] | None:
    """Return the values that the parameters have now; None where they are not among what is tried.

    Args:
        space: what is tried.
        train: the section ``train``, with defaults filled in.
    """
    values = {one.key: train.get(one.key.partition(".")[2]) for one in space}
    return values if all(one.holds(values[one.key]) for one in space) else None
