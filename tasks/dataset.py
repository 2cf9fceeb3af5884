"""The split dataset on disk, as split writes it and the later stages read it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import yaml

from keypipe.coco import CocoFile, parse_coco, to_images
from keypipe.errors import DatasetError
from keypipe.skeleton import Schema, Skeleton
from keypipe.yolo import SIDES, add_fold, is_current, to_view, write_view

ANNOTATIONS = Path("data/dataset/annotations")
DATA_YAML = Path("data/dataset/data.yaml")
FOLDS = Path("data/dataset/folds")
MANIFEST = Path("data/dataset/manifest.csv")
VIEW = Path("data/yolo")


def read_side(root: Path, side: str) -> CocoFile:
    """Read one side's COCO file.

    Raises:
        DatasetError: it is not there.
    """
    path = root / ANNOTATIONS / f"{side}.json"
    if not path.exists():
        raise DatasetError(f"{path}: not there; run the split stage first")
    return parse_coco(path.read_bytes())


def read_sides(root: Path) -> dict[str, CocoFile]:
    """Read the COCO files of the sides that have images."""
    files = {side: read_side(root, side) for side in SIDES}
    return {side: file for side, file in files.items() if file.images}


def read_schema(root: Path) -> Schema:
    """Read the schema that the dataset was split with, from its own files.

    The left/right pairs follow from ``flip_idx``, classes and edges from the COCO categories, so that later
    stages depend on the dataset alone.
    """
    data = yaml.safe_load((root / DATA_YAML).read_text(encoding="utf-8"))
    slots, flip = next(iter(data["kpt_names"].values())), data["flip_idx"]
    partners = {slots[i]: slots[j] for i, j in enumerate(flip) if i < j}
    categories = read_side(root, "train").categories
    return Schema(
        {
            category.name: Skeleton(
                tuple(category.keypoints),
                tuple((category.keypoints[a - 1], category.keypoints[b - 1]) for a, b in category.skeleton),
                tuple((a, b) for a, b in partners.items() if a in category.keypoints and b in category.keypoints),
            )
            for category in categories
        }
    )


def check_images(root: Path, paths: Iterable[str]) -> None:
    """Check that images are there.

    Raises:
        DatasetError: some are not.
    """
    data = str(root / "data")
    missing = [path for path in paths if not os.path.exists(f"{data}/{path}")]  # noqa: PTH110 - Path is far slower
    if missing:
        raise DatasetError(
            f"{len(missing)} images of the dataset are not there, such as data/{missing[0]}; get them with `dvc pull`,"
            " or run the convert stage again"
        )


def refresh_view(root: Path) -> bool:
    """Bring ``data/yolo`` up to the dataset; a view that follows from it already is left alone.

    Returns:
        Whether anything was written.
    """
    files = read_sides(root)
    folds = sorted(path for path in (root / FOLDS).glob("*") if path.is_dir())
    sources = [root / DATA_YAML, *(root / ANNOTATIONS / f"{side}.json" for side in files)]
    sources += [path for fold in folds for path in sorted(fold.rglob("*")) if path.is_file()]
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    paths = {side: [image.file_name for image in file.images] for side, file in files.items()}
    check_images(root, (path for some in paths.values() for path in some))
    stamp = digest.hexdigest()
    if is_current(root / VIEW, paths, (int(fold.name) for fold in folds), stamp):
        return False
    view = to_view(
        {side: to_images(file) for side, file in files.items()},
        read_schema(root),
        (root / DATA_YAML).read_text(encoding="utf-8"),
    )
    for fold in folds:
        lists = {
            side: [image.file_name for image in parse_coco((fold / f"annotations/{side}.json").read_bytes()).images]
            for side in ("train", "val")
        }
        add_fold(view, int(fold.name), lists, (fold / "data.yaml").read_text(encoding="utf-8"))
    write_view(root / VIEW, view, stamp)
    return True
