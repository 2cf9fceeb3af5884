"""The errors a user can mend, and the faults of an input that are reported together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec


class PoseError(Exception):
    """The user's input or configuration is at fault; the message says what, where and what to do.

    Everything that is not a ``PoseError`` is a bug and keeps its traceback.
    """


class ConfigError(PoseError):
    """A parameter, a schema or a command line is wrong."""


class AnnotationError(PoseError):
    """An annotation file or an image cannot be used as it is."""


class DatasetError(PoseError):
    """The dataset as a whole cannot be used: too small, not splittable, not the one that was trained."""


class ModelError(PoseError):
    """A model file is absent, damaged, or made for another skeleton."""


class Fault(msgspec.Struct, frozen=True, order=True):
    """One thing wrong with one place of the input.

    Attributes:
        file: path of the file, relative to the folder that was read.
        shape: zero-based index in the file's ``shapes``, or None for the file as a whole.
        kind: short stable name, such as ``repeated-keypoint``.
        found: what was found there.
        fix: what to do about it.
    """

    file: str
    shape: int | None
    kind: str
    found: str
    fix: str

    def __str__(self) -> str:
        place = self.file if self.shape is None else f"{self.file} shape {self.shape}"
        return f"{place}: {self.found} -> {self.fix}"


MAX_FAULTS_SHOWN = 20


class FaultsError(AnnotationError):
    """All faults of an input at once."""

    def __init__(self, faults: Sequence[Fault], advice: str = "") -> None:
        self.faults = sort_faults(faults)
        super().__init__(format_faults(self.faults, advice))


def sort_faults(faults: Iterable[Fault]) -> list[Fault]:
    """Sort faults by file; those of the file as a whole come first, then those of its shapes in order."""
    return sorted(faults, key=lambda fault: (fault.file, -1 if fault.shape is None else fault.shape, fault.kind))


def format_faults(faults: Sequence[Fault], advice: str = "") -> str:
    """Format faults as the message a user reads: a count, one line each, and what to do.

    Args:
        faults: the faults, in the order to show.
        advice: a closing sentence.

    Returns:
        Text of several lines; only the first ``MAX_FAULTS_SHOWN`` faults are spelt out.
    """
    files = len({fault.file for fault in faults})
    lines = [f"{format_count(len(faults), 'fault')} in {format_count(files, 'file')}"]
    lines += [f"  {fault}" for fault in faults[:MAX_FAULTS_SHOWN]]
    hidden = len(faults) - MAX_FAULTS_SHOWN
    if hidden > 0:
        lines.append(f"  ... and {hidden} more")
    if advice:
        lines.append(advice)
    return "\n".join(lines)


def format_count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 box``, ``2 boxes``.

    Args:
        number: how many.
        noun: of one.
        plural: of more; the noun with an s by default.
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


@contextmanager
def needs_extra(package: str, extra: str) -> Iterator[None]:
    """Import a package in the block that follows, where the slim library may lack it.

    Args:
        package: as people call it.
        extra: of keypipe's, which installs it.

    Raises:
        PoseError: it is not installed; says how it is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise PoseError(f"{package} is not installed: pip install 'keypipe[{extra}]'") from error
