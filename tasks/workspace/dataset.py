"""The split dataset on disk, as split writes it and the later stages read it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import yaml

from keypipe.dataset.coco import CocoFile, parse_coco
from keypipe.dataset.coco_stream import CocoLines
from keypipe.dataset.view import lay_out, refresh
from keypipe.dataset.yolo import SPLITS, format_classes
from keypipe.errors import DatasetError
from keypipe.keypoints.skeleton import Schema, Skeleton
from tasks.workspace.places import ANNOTATIONS, DATA_YAML, FOLDS, VIEW, VIEW_MEMORY


def _find_split(root: Path, split: str) -> Path:
    path = root / ANNOTATIONS / f"{split}.json"
    if not path.exists():
        raise DatasetError(f"{path}: not there; run the split stage first")
    return path


def read_split(root: Path, split: str) -> CocoFile:
    """Read one split's COCO file.

    Raises:
        DatasetError: it is not there.
    """
    return parse_coco(_find_split(root, split).read_bytes())


def read_splits(root: Path) -> dict[str, CocoFile]:
    """Read the COCO files of the splits that have images."""
    files = {split: read_split(root, split) for split in SPLITS}
    return {split: file for split, file in files.items() if file.images}


def read_schema(root: Path) -> Schema:
    """Read the schema that the dataset was split with, from its own files.

    The left/right pairs follow from ``flip_idx``, classes and edges from the COCO categories, so that later
    stages depend on the dataset alone.
    """
    data = yaml.safe_load((root / DATA_YAML).read_text(encoding="utf-8"))
    slots, flip = next(iter(data["kpt_names"].values())), data["flip_idx"]
    partners = {slots[i]: slots[j] for i, j in enumerate(flip) if i < j}
    categories = CocoLines(_find_split(root, "train")).categories
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


def read_depth(root: Path) -> str:
    """Read what became of images with more than 8 bits a sample: ``cut`` or ``scale``."""
    return CocoLines(_find_split(root, "train")).depth


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
        Whether anything was written or removed.

    Raises:
        DatasetError: the dataset or images of it are not there.
    """
    files = {split: CocoLines(_find_split(root, split)) for split in SPLITS}
    splits = {split: coco for split, coco in files.items() if coco.n_images}
    schema = read_schema(root)
    layout = lay_out(splits, schema)
    check_images(root, layout.paths)
    texts = {"data.yaml": (root / DATA_YAML).read_text(encoding="utf-8"), "classes.txt": format_classes(schema)}
    folds = sorted(path for path in (root / FOLDS).glob("*") if path.is_dir())
    place_of = dict(zip(layout.paths, layout.places, strict=True)) if folds else {}
    for fold in folds:
        texts[f"fold{fold.name}.yaml"] = (fold / "data.yaml").read_text(encoding="utf-8")
        for split in ("train", "val"):
            images = CocoLines(fold / f"annotations/{split}.json").images()
            lines = (f"./images/{place_of[image.file_name]}\n" for image in images)
            texts[f"fold{fold.name}_{split}.txt"] = "".join(lines)
    return refresh(root / VIEW, layout, splits, schema, texts, root / VIEW_MEMORY)
