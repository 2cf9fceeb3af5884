"""Predictions as plain values, without the engine."""

from __future__ import annotations

Row = tuple[str, int, float, list[float], list[list[float]]]
"""Image file name below ``images/<split>``, class id, score, box (left, top, right, bottom), keypoints (slots x 3).

In original pixels.
"""
