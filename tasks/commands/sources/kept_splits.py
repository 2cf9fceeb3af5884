"""Splits of a dataset that is imported, written into the manifest, so that the stage split keeps them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from keypipe.annotations.readings import Folder
from keypipe.dataset.yolo import SPLITS
from keypipe.errors import ConfigError
from keypipe.files.atomic import replacing_file
from keypipe.splits.manifest import Manifest, ManifestLine, read_manifest, write_manifest
from tasks.commands.sources.import_images import Incoming
from tasks.split import SplitParams
from tasks.workspace.places import MANIFEST


class Kept(msgspec.Struct):
    """What a manifest will be, and what there is to say of it."""

    manifest: Manifest
    told: list[str]


def describe_splits(images: Sequence[Incoming]) -> str:
    """Return how many images are in each of the source's splits; empty if it has none."""
    counts = Counter(image.labels.split for image in images if image.labels.split)
    return ", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split])


def keep_splits(
    root: Path, folder: Path, images: Sequence[Incoming], ahead: Folder | None, params: SplitParams
) -> Kept:
    """Add the images of a source to the manifest, each in the split that it has there; nothing is written.

    Args:
        root: the workspace.
        folder: of the images, relative to ``data/``.
        images: with their splits.
        ahead: the same images as convert will read them: a mended one has other bytes.
        params: of the stage split.

    Raises:
        ConfigError: the source has no splits.
        DatasetError: a line of the manifest cannot be parsed.
    """
    described = describe_splits(images)
    if not described:
        raise ConfigError("--keep-splits: neither data.yaml nor the names of folders say which split an image is in")
    before = read_manifest(root / MANIFEST)
    known = {line.md5: line.split for line in before.lines if line.split}
    contents = _read_contents(folder, images, ahead)
    chosen: dict[str, str] = {}
    for image in images:
        md5 = contents[image.target][1]
        if image.labels.split:
            chosen[md5] = max(chosen.get(md5, ""), image.labels.split, key=["", *SPLITS].index)
    lines = [
        ManifestLine(path, md5, chosen[md5])
        for path, md5 in dict.fromkeys(contents.values())
        if md5 in chosen and md5 not in known
    ]
    told = [f"splits kept, in {MANIFEST}: {described}"]
    moved = sum(known.get(md5, split) != split for md5, split in chosen.items())
    told += [f"  {moved} of these images are in another split already, and stay there"] if moved else []
    twice = sum(
        bool(image.labels.split) and chosen[contents[image.target][1]] != image.labels.split for image in images
    )
    told += [f"  {twice} images are on two splits of the source; the one that measures keeps them"] if twice else []
    after = Counter(line.split for line in (*before.lines, *lines))
    lacking = [split for split, share in params.ratios.items() if share > 0 and not after[split]]
    told += (
        [f"  no image for {' and '.join(lacking)}: set split.{lacking[0]} to 0, or annotate more"] if lacking else []
    )
    return Kept(Manifest((*before.lines, *lines), before.draw, before.reset), told)


def _read_contents(folder: Path, images: Sequence[Incoming], ahead: Folder | None) -> Mapping[str, tuple[str, str]]:
    """Return path and hash of each image, by its name in the new folder."""
    as_read: dict[str, tuple[str, str]] = {}
    for file in ahead.files if ahead else ():
        if file.image:
            place, _, name = file.image.path.partition("/")
            as_read[file.raw_image or name] = (f"{place}/{folder.as_posix()}/{name}", file.image.md5)
    return {
        image.target: as_read.get(image.target) or (f"raw/{folder.as_posix()}/{image.target}", image.md5())
        for image in images
    }


def write_kept(root: Path, manifest: Manifest) -> None:
    """Write the manifest, whole or not at all."""
    with replacing_file(root / MANIFEST) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        write_manifest(file, manifest)
