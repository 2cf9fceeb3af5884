"""Groups of images that belong together, from folders and file names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from keypipe.errors import DatasetError, format_count
from keypipe.proposal.values import Proposal
from keypipe.splits.groups import BY_FOLDER, find_group

KEY = "split.group_by"

BY_NAME = r"(?i)^(.*?)(?:[\W_]*(?:frame)?[\W_]*\d+)?(?:\.[a-z][^./]*)*$"
"""What stands before the last number of a file's name: the video of a frame, the day of ``IMG_20230417_171802.jpg``.
Images that are made anew have two suffixes."""
BY_DATE = r"((?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01]))(?!\d)"

_WAYS = (
    (BY_FOLDER, "folders"),
    (BY_NAME, "names before their last number"),
    (BY_DATE, "dates in names"),
)
_MIN_GROUPS = 6
"""Fewer cannot fill three splits whose shares are about what was asked for."""
_MAX_SHARE = 0.4
"""Of the images in one group: a larger one leaves the other splits next to nothing."""
_MIN_SIZE = 3.0
"""Images of a group, on average: names that all differ are no groups."""


def propose_groups(paths: Sequence[str]) -> Proposal | None:
    """Propose ``split.group_by``.

    Args:
        paths: of the images, relative to the raw folder.

    Returns:
        The way to group that fits best; with the value None where there are groups but too few to deal out; None where
        names and folders tell nothing.
    """
    weak: Proposal | None = None
    for way, what in _WAYS:
        groups = _deal(paths, way)
        if groups is None or len(groups) < 2 or len(paths) < _MIN_SIZE * len(groups):
            continue
        (first, largest), *_ = groups.most_common()
        names = ", ".join(repr(name) for name, _ in groups.most_common(3))
        found = f"{format_count(len(groups), 'group')} by {what}, such as {names}"
        if len(groups) >= _MIN_GROUPS and largest <= _MAX_SHARE * len(paths):
            return Proposal(KEY, way, f"{found}: images of one stay in one split")
        why = f"{found}: too few to fill three splits, {largest} of {len(paths)} images are in {first!r}"
        weak = weak or Proposal(KEY, None, why)
    return weak


def _deal(paths: Sequence[str], way: str) -> Counter[str] | None:
    """Count the images of each group; None where an image has none."""
    groups: Counter[str] = Counter()
    for path in paths:
        try:
            group = find_group(f"raw/{path}", way)
        except DatasetError:
            return None
        if way == BY_FOLDER:
            *_, folder = group.rpartition("/")
            if not group or folder.lower() in _NO_GROUPS:
                return None
        groups[group] += 1
    return groups


_NO_GROUPS = {"images", "image", "img", "imgs", "labels", "train", "val", "valid", "validation", "test", "data"}
"""Folders by which tools sort files, and no scene."""
