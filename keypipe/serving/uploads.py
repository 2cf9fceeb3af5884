"""The image that a request carries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from keypipe.errors import AnnotationError, PoseError
from keypipe.serving.model import (
    MEGA,
    TooLargeError,
)

_BODY_SECONDS = 30.0  # a client that sends slower than this holds a place that others want
THRESHOLDS = {"conf", "iou", "max_det", "keypoint_conf"}


class SlowBodyError(PoseError):
    """A client has not sent its image in time."""


async def read_image(request: Request, max_bytes: int) -> tuple[bytes, str]:
    """Return the bytes of the image that a request carries, and the name that it gives it, or ""."""
    body = await _read_body(request, max_bytes)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        # Whatever the header says: the bytes tell the format, and curl calls every body a form.
        return body, ""
    parser = MultiPartParser(request.headers, _once(body), max_files=1, max_fields=len(THRESHOLDS))
    parser.spool_max_size = len(body) + 1  # the body is in memory anyway; no detour over a disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise AnnotationError(f"the form cannot be read: {error.message}") from error
    fields = [name for name, value in form.items() if not isinstance(value, UploadFile)]
    if fields:
        raise AnnotationError(f"the form's field {fields[0]} is no file; thresholds belong into the address, ?conf=0.3")
    for value in form.values():
        if isinstance(value, UploadFile):
            return await value.read(), value.filename or ""
    raise AnnotationError("no image: the form has no file; send one, under any name")


async def _read_body(request: Request, max_bytes: int) -> bytes:
    too_large = TooLargeError(f"the body has more than {max_bytes / MEGA:g} MB, the most that this server takes")
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > max_bytes:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > max_bytes:
                    raise too_large
                chunks.append(chunk)
    except TimeoutError as error:
        raise SlowBodyError(f"the image did not arrive within {_BODY_SECONDS:g} s") from error
    return b"".join(chunks)


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
