"""The number of a file's format: files of older formats stay readable, one of a newer format is refused."""

from __future__ import annotations

import msgspec

from keypipe.errors import DatasetError


class _Numbered(msgspec.Struct):
    format: int = 1  # files had no number before there were two formats


def check_format(content: bytes, newest: int, name: str) -> None:
    """Check that this keypipe knows a file's format.

    Args:
        content: JSON, an object.
        newest: the newest format that is known.
        name: of the file, for the message.

    Raises:
        DatasetError: the format is newer, or the content is no such JSON.
    """
    try:
        found = msgspec.json.decode(content, type=_Numbered).format
    except msgspec.DecodeError as error:
        raise DatasetError(f"{name}: damaged ({error}); `dvc checkout` brings the last good one back") from error
    if found > newest:
        raise DatasetError(f"{name}: written by a newer keypipe (format {found}, known up to {newest}); update keypipe")
