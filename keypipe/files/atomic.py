"""Files that are there whole, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all; one that is there keeps its permissions.

    Args:
        path: the file; its folder is made. A link is followed.
        text: as it is to stand there, line ends included.
    """
    target = path.resolve()
    with replacing_file(target) as temporary:
        temporary.write_bytes(text.encode("utf-8"))
        if target.exists():
            shutil.copymode(target, temporary)


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
