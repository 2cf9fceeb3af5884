"""Annotations as another person would have made them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def shake(folder: Path, px: float, seed: int) -> None:
    """Move every point of a folder's labelme files by normal deviates, in place.

    Args:
        folder: of labelme files.
        px: standard deviation of each coordinate, pixels.
        seed: of the deviates.
    """
    rng = np.random.default_rng(seed)
    for path in sorted(folder.rglob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        width, height = document["imageWidth"], document["imageHeight"]
        for shape in document["shapes"]:
            if shape["shape_type"] == "point":
                moved = np.array(shape["points"][0]) + rng.normal(0, px, 2)
                shape["points"] = [np.clip(moved, 0, [width - 1, height - 1]).tolist()]
        path.write_text(json.dumps(document), encoding="utf-8")
