"""The split dataset on disk, as split writes it and the later stages read it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

from keypipe.coco import CocoFile, parse_coco, to_images
from keypipe.errors import DatasetError
from keypipe.skeleton import Schema, Skeleton
from keypipe.yolo import SIDES, to_view, write_view

ANNOTATIONS = Path("data/dataset/annotations")
DATA_YAML = Path("data/dataset/data.yaml")
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


def refresh_view(root: Path) -> bool:
    """Bring ``data/yolo`` up to the dataset; a view that follows from it already is left alone.

    Returns:
        Whether anything was written.
    """
    files = read_sides(root)
    digest = hashlib.sha256((root / DATA_YAML).read_bytes())
    for side in files:
        digest.update((root / ANNOTATIONS / f"{side}.json").read_bytes())
    stamp = digest.hexdigest()
    missing = [
        image.file_name
        for file in files.values()
        for image in file.images
        if not (root / "data" / image.file_name).exists()
    ]
    if missing:
        raise DatasetError(
            f"{len(missing)} images of the dataset are not there, such as data/{missing[0]}; get them with `dvc pull`,"
            " or run the convert stage again"
        )
    view = to_view(
        {side: to_images(file) for side, file in files.items()},
        read_schema(root),
        (root / DATA_YAML).read_text(encoding="utf-8"),
    )
    return write_view(root / VIEW, view, stamp)
