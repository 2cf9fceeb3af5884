"""Files that are there whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a name beside a file that takes its place when the block ends without an error.

    Args:
        path: the file; its folder is made.

    Yields:
        A path of the same suffix in the same folder, for the block to write; it is gone afterwards.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: it tells OpenCV the container of a video.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
