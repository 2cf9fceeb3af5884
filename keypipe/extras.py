"""Packages that only a part of the library needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from keypipe.errors import PoseError


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
