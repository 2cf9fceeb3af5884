"""Load and save with labelme, whose functions take other arguments from version 7 on.

Also a program for an environment of labelme's own, hence nothing of keypipe is imported:
``python labelme_files.py SOURCE TARGET`` loads each JSON below a folder and saves it below another.
"""

from __future__ import annotations

import dataclasses
import io
import sys
from pathlib import Path
from typing import Any

import labelme
from labelme import _label_file
from PIL import Image

VERSION: str = labelme.__version__
SHAPE_KEYS = ("label", "points", "group_id", "description", "shape_type", "flags", "mask")


def load(path: Path) -> Any:
    """Load a JSON and its image."""
    return _label_file.read_label_file(filename=str(path))


def save(loaded: Any, shapes: list[dict[str, Any]], target: Path) -> Path:
    """Save what was loaded, with these shapes, as labelme does without the image's data."""
    with Image.open(io.BytesIO(loaded.image_data)) as image:
        width, height = image.size
    size: dict[str, Any] = {"filename": str(target), "image_width": width, "image_height": height}
    if hasattr(_label_file, "Annotation"):
        annotation = dataclasses.replace(loaded, shapes=shapes)
        _label_file.write_label_file(**size, annotation=annotation, save_image_data=False)
    else:
        flat = [{key: shape[key] for key in SHAPE_KEYS} | shape["other_data"] for shape in shapes]
        kept = {"image_path": loaded.image_path, "other_data": loaded.other_data, "flags": loaded.flags}
        _label_file.write_label_file(**size, **kept, shapes=flat)
    return target


def apply_exif_orientation(image: Image.Image) -> Image.Image:
    """Turn an image as labelme shows it."""
    if hasattr(labelme, "utils"):
        return labelme.utils.apply_exif_orientation(image=image)
    return labelme._utils.apply_exif_orientation(image)


def main() -> None:
    """Copy a folder's labels through labelme, and print its version."""
    source, target = map(Path, sys.argv[1:])
    for path in sorted(source.rglob("*.json")):
        loaded = load(path)
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        save(loaded, loaded.shapes, copy)
    print(VERSION)


if __name__ == "__main__":
    main()
