"""Images to split, made of a name alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from keypipe.splits.assignment import Split
from keypipe.splits.balance import count_features
from keypipe.splits.contents import Sample
from keypipe.splits.groups import find_group
from keypipe.splits.manifest import (
    format_phash,
)

RATIOS = {"train": 0.7, "val": 0.15, "test": 0.15}


def image(name: str, content: str | None = None, objects: Sequence[str] = ()) -> Sample:
    return Sample(f"raw/{name}.jpg", content or f"md5-{name}", count_features(objects))


def images(*names: str) -> list[Sample]:
    return [image(name) for name in names]


def numbered(n: int) -> list[Sample]:
    return images(*(f"{index:03d}" for index in range(n)))


def splits_of(assigned: Split) -> dict[str, str]:
    return {line.image: line.split for line in assigned.lines if line.state == "used"}


def put_groups(some: Sequence[Sample], groups: Mapping[str, str]) -> list[Sample]:
    return [msgspec.structs.replace(sample, group=groups.get(sample.path, "")) for sample in some]


def group_all(some: Sequence[Sample], group_by: str) -> list[Sample]:
    return put_groups(some, {sample.path: find_group(sample.path, group_by) for sample in some})


def looks(hashes: Mapping[str, int | None]) -> dict[str, str]:
    return {f"md5-{name}": format_phash(value) for name, value in hashes.items()}
