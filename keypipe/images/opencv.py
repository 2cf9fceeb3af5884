"""OpenCV, imported where it is used: the library without prediction and pictures does without it."""

from __future__ import annotations

from functools import cache
from typing import Any

from keypipe.errors import PoseError


@cache
def import_cv2() -> Any:
    """Return OpenCV's module.

    Raises:
        PoseError: it is not installed.
    """
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise PoseError("OpenCV is not installed: pip install 'keypipe[predict]'") from error
    # What is wrong with a file is told by our own message.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2
