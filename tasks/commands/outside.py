"""Whether a folder of annotations holds their images as well."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

from keypipe.annotations.labelme import LabelmeError, parse_labelme
from keypipe.errors import AnnotationError
from keypipe.images.lookup import ImageFolder


def check_images_inside(folder: Path, names: Sequence[str], encoding: str | None = None) -> None:
    """Check that a folder holds the images of its annotations.

    Args:
        folder: labelme JSON files, in any subfolders.
        names: of its files.
        encoding: of the JSON files, where it is neither UTF-8 nor UTF-16.

    Raises:
        AnnotationError: an image lies outside the folder, or none of them is in it.
    """
    images = ImageFolder(name for name in names if not name.lower().endswith(".json"))
    lost: list[tuple[str, str]] = []
    n_found = 0
    for name in (name for name in names if name.lower().endswith(".json")):
        try:
            file = parse_labelme((folder / name).read_bytes(), encoding)
        except LabelmeError:
            continue  # convert reports it, with all the other faults
        found = images.find(name, file.image_path)
        if found.name or found.candidates or file.has_image_data:
            n_found += 1
            continue
        lost.append((name, file.image_path or ""))
    for name, image_path in lost:
        if outside := _find_outside(folder, name, image_path, is_alone=not n_found):
            raise AnnotationError(
                f"{folder / name}: its image, {outside}, lies outside {folder}; give a folder that holds both, such as"
                f" {os.path.commonpath([folder, outside.parent])}"
            )
    if lost and not n_found:
        name, image_path = lost[0]
        raise AnnotationError(
            f"{folder}: none of the images of its {len(lost)} JSON files is in it, such as {image_path!r} of {name};"
            " give a folder that holds annotations and images"
        )


def _find_outside(folder: Path, source: str, image_path: str, *, is_alone: bool) -> Path | None:
    """Return the image of an annotation file that lies outside a folder: where the file says, or in a folder beside.

    Images beside that have annotations there are another folder's, and only happen to have the name. Where some images
    are inside (not ``is_alone``), so are those of any folder with annotations.
    """
    if not image_path:
        return None
    named = Path(os.path.normpath((folder / source).parent / image_path.replace("\\", "/")))
    if named.is_file() and not named.is_relative_to(folder):
        return named
    beside = (folder.parent, *sorted(folder.parent.glob("*/")))
    places = (place / PureWindowsPath(image_path).name for place in beside if place != folder)
    return next((path for path in places if path.is_file() and not _is_annotated(path, is_alone=is_alone)), None)


def _is_annotated(image: Path, *, is_alone: bool) -> bool:
    return image.with_suffix(".json").exists() or (not is_alone and any(image.parent.glob("*.json")))
