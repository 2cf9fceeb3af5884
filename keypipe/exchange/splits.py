"""Which split of its source an image is in, by ``data.yaml`` or by the names of folders and files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
SPLIT_KEYS = ("train", "val", "test")


def split_of_path(path: str, *, with_name: bool = False) -> str:
    """Return the split that a path's folders name; empty if none or several do.

    Args:
        path: with forward slashes, such as ``train/images/1.jpg`` or ``annotations/person_keypoints_val2017.json``.
        with_name: let words of the file's name count as well, where the folders name no split.

    Returns:
        ``train``, ``val``, ``test`` or nothing.
    """
    *folders, name = PurePosixPath(path).parts or ("",)
    found = {split for folder in folders if (split := _split_of_word(folder))}
    if not found and with_name:
        words = re.split(r"[^a-z0-9]+", PurePosixPath(name).stem.lower())
        found = {split for word in words if (split := _split_of_word(word))}
    return found.pop() if len(found) == 1 else ""


def _split_of_word(word: str) -> str:
    return _WORDS.get(re.sub(r"[-_]?(19|20)\d\d$", "", word.lower()), "")


def splits_of_data_yaml(
    data: Mapping[str, Any], images: Iterable[str], read_list: Callable[[str], Sequence[str]]
) -> dict[str, str]:
    """Return the split of each image of a YOLO folder.

    Args:
        data: of ``data.yaml``: ``train``, ``val`` and ``test`` are folders, lists of images, or several of them.
        images: paths relative to the folder of the dataset.
        read_list: gives the lines of a list of images that ``data.yaml`` names; none if it is not there.

    Returns:
        Image -> split, for those that are in exactly one. Where ``data.yaml`` says nothing of any image, the names of
        folders count.
    """
    entries = [(entry, split) for split in SPLIT_KEYS for entry in _read_entries(data.get(split), read_list)]
    by_name: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for entry, split in entries:
        by_name[entry.rpartition("/")[2]].append((entry, split))
    found: dict[str, set[str]] = {}
    names = list(images)
    for name in names:
        places = [name, *map(str, PurePosixPath(name).parents)]
        found[name] = {
            split
            for place in places
            for entry, split in by_name[place.rpartition("/")[2]]
            if entry == place or entry.endswith(f"/{place}")
        }
    if any(found.values()):
        return {name: splits.pop() for name, splits in found.items() if len(splits) == 1}
    return {name: split for name in names if (split := split_of_path(name))}


def _read_entries(raw: Any, read_list: Callable[[str], Sequence[str]]) -> Iterator[str]:
    for entry in raw if isinstance(raw, list) else [raw]:
        if isinstance(entry, str) and entry.endswith(".txt"):
            yield from (_shorten(line) for line in read_list(_shorten(entry)) if line.strip())
        elif isinstance(entry, str) and entry:
            yield _shorten(entry)


def _shorten(path: str) -> str:
    """Drop what leads to the dataset's folder, which lies elsewhere by now: Roboflow writes ``../train/images``."""
    parts = [part for part in path.strip().replace("\\", "/").split("/") if part not in {"", ".", ".."}]
    return "/".join(parts) or "."
