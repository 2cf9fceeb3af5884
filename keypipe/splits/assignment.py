"""Train/val/test splits that stay: the manifest, and how images that have no split get one.

The rules are explained in docs/splits.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain

import msgspec

from keypipe.dataset.yolo import SPLITS
from keypipe.errors import ConfigError, DatasetError
from keypipe.splits.balance import Feature, deal
from keypipe.splits.contents import Contents, Sample
from keypipe.splits.manifest import ABSENT, ASIDE, USED, ManifestLine

_RATIO_SLACK = 1e-6


def check_ratios(ratios: Mapping[str, float]) -> None:
    """Check the wanted shares of the splits.

    Args:
        ratios: split -> share; a split of 0 is not made, except that train and val must be there.

    Raises:
        ConfigError: a share below 0, no train or val, or a sum that is not 1.
    """
    shown = ", ".join(f"{split} {ratios.get(split, 0.0):g}" for split in SPLITS)
    if min(ratios.values()) < 0 or not (ratios.get("train", 0) > 0 and ratios.get("val", 0) > 0):
        raise ConfigError(f"split: train and val need a share above 0, test may be 0; got {shown}")
    total = sum(ratios.values())
    if abs(total - 1) > _RATIO_SLACK:
        raise ConfigError(f"split: the shares must add up to 1, got {shown} = {total:g}")


class Aside(msgspec.Struct, frozen=True):
    """An image that is in no split, since it touches two.

    Attributes:
        image: its path relative to ``data/``.
        touches: split -> an image there that it is the same as, or shares a group, a near duplicate or a chain of
            them with.
    """

    image: str
    touches: dict[str, str]


class Split(msgspec.Struct, frozen=True):
    """Where every image is.

    Attributes:
        lines: of the new manifest.
        asides: images that are in no split.
        together: paths of used images that must stay in one split; two or more each, the largest first.
    """

    lines: tuple[ManifestLine, ...]
    asides: tuple[Aside, ...]
    together: tuple[tuple[str, ...], ...]


def assign_splits(
    samples: Sequence[Sample],
    ratios: Mapping[str, float],
    seed: int,
    known: Sequence[ManifestLine] = (),
    phashes: Mapping[str, str] | None = None,
    n_folds: int = 0,
) -> Split:
    """Give every image a split; one that has a split keeps it.

    An image is known by its bytes. Images of one group, near duplicates, and chains of these, belong together: a new
    one joins the split of those that have one, or is set aside when they are in two. The rest fills the ratios.

    Args:
        samples: all images of the dataset, in any order.
        ratios: wanted shares, see ``check_ratios``.
        seed: of the draw.
        known: the manifest of the last run.
        phashes: md5 -> perceptual hash, as the manifest has it, of images whose hash is not in it yet.
        n_folds: 0, or into how many folds the images of train and val are dealt as well.

    Returns:
        The manifest's new lines, and what belongs together.

    Raises:
        DatasetError: a split would be empty.
    """
    contents = Contents(samples, known, phashes or {})
    split_of, asides = _keep_and_join(contents, known)
    kept = [number for number, split in enumerate(split_of) if split]
    have = {split: contents.count(n for n in kept if split_of[n] == split) for split in SPLITS}
    pool = contents.gather(n for n, split in enumerate(split_of) if not split and n not in asides)
    dealt = deal([contents.features(members) for members in pool], have, ratios, seed)
    for members, split in zip(pool, dealt, strict=True):
        for number in members:
            split_of[number] = split
    _check_filled(contents, split_of, asides, ratios)
    folds: dict[int, str] = {}
    if n_folds:
        trained = [n for n in (*kept, *chain.from_iterable(pool)) if split_of[n] != "test"]
        folds = _deal_folds(contents, trained, known, n_folds, seed)
    return Split(
        tuple(sorted(_to_lines(contents, split_of, asides, folds, known))),
        tuple(
            Aside(sample.path, asides[number])
            for number in sorted(asides, key=contents.md5)
            for sample in contents.samples(number)
        ),
        _list_together(contents, split_of),
    )


def _keep_and_join(contents: Contents, known: Sequence[ManifestLine]) -> tuple[list[str], dict[int, dict[str, str]]]:
    """Return a split for each content that keeps or joins one, else "", and what those that are set aside touch."""
    members = Counter(contents.component)
    touched: dict[int, dict[str, str]] = defaultdict(dict)
    for line in sorted(known):
        number = contents.number(line)
        component = contents.component[number]
        if line.split and (members[component] > 1 or len(contents.splits[number]) > 1):
            touched[component].setdefault(line.split, line.image)
    split_of = [""] * contents.n_present
    asides: dict[int, dict[str, str]] = {}
    for number in range(contents.n_present):
        splits, touches = contents.splits[number], touched.get(contents.component[number], {})
        if len(splits) == 1 or (not splits and len(touches) == 1):
            split_of[number] = next(iter(splits or touches))
        elif touches:
            asides[number] = touches
    split_ones = [n for n, split in enumerate(split_of) if split and len(touched.get(contents.component[n], ())) > 1]
    for group in contents.regroup(split_ones):
        # Only a merge, or other rules for groups, bring members of one group into two splits. The one that measures
        # stays: a test set that loses images cannot be compared with last month's.
        strongest = max((split_of[number] for number in group), key=SPLITS.index)
        for number in group:
            if split_of[number] != strongest:
                stays = next(other for other in group if split_of[other] == strongest)
                first, other = contents.samples(number)[0], contents.samples(stays)[0]
                asides[number] = {split_of[number]: first.path, strongest: other.path}
                split_of[number] = ""
    return split_of, asides


def _list_together(contents: Contents, split_of: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the paths of used images that must stay in one split."""
    together = [
        tuple(sorted(sample.path for number in members if split_of[number] for sample in contents.samples(number)))
        for members in contents.gather(contents.crowded())
    ]
    return tuple(sorted((paths for paths in together if len(paths) > 1), key=lambda paths: (-len(paths), paths)))


def _check_filled(
    contents: Contents, split_of: Sequence[str], asides: Collection[int], ratios: Mapping[str, float]
) -> None:
    empty = [split for split in SPLITS if ratios.get(split, 0.0) > 0 and split not in split_of]
    if empty:
        n_units = len({contents.component[number] for number, split in enumerate(split_of) if split})
        because = f", {len(asides)} of them set aside since they touch two splits" if asides else ""
        raise DatasetError(
            f"too few images to split: {contents.n_samples} images{because}, in {n_units} groups,"
            f" leave nothing for {' and '.join(empty)}; annotate more, make smaller groups, set the split's share to 0,"
            " or draw all splits anew with split.reset: true"
        )


def _deal_folds(
    contents: Contents, numbers: Iterable[int], known: Sequence[ManifestLine], n_folds: int, seed: int
) -> dict[int, str]:
    """Return a fold for the contents of train and val; folds stay as long as their number does."""
    names = [str(number) for number in range(1, n_folds + 1)]
    before = {contents.number(line): line.fold for line in known if line.fold}
    if set(before.values()) != set(names):
        before = {}
    units = contents.gather(numbers)
    if len(units) < n_folds:
        raise DatasetError(f"split.folds: {n_folds} folds need as many groups outside test, there are {len(units)}")
    fold_of: dict[int, str] = {}
    have: dict[str, Counter[Feature]] = {name: Counter() for name in names}
    new: list[list[int]] = []
    for members in units:
        folds = sorted({before[number] for number in members if number in before}, key=int)
        if folds:
            fold_of |= dict.fromkeys(members, folds[0])
            have[folds[0]].update(contents.count(members))
        else:
            new.append(members)
    dealt = deal([contents.features(members) for members in new], have, dict.fromkeys(names, 1 / n_folds), seed)
    return fold_of | {number: fold for members, fold in zip(new, dealt, strict=True) for number in members}


def _to_lines(
    contents: Contents,
    split_of: Sequence[str],
    asides: Collection[int],
    folds: Mapping[int, str],
    known: Sequence[ManifestLine],
) -> Iterable[ManifestLine]:
    for number in range(contents.n_present):
        state = ASIDE if number in asides else USED
        for split in contents.splits[number] or (split_of[number],):
            for sample in contents.samples(number):
                yield ManifestLine(
                    sample.path,
                    sample.md5,
                    split,
                    sample.group,
                    contents.phashes[number],
                    folds.get(number, ""),
                    state,
                )
    for line in known:
        if contents.number(line) >= contents.n_present and line.split:
            yield msgspec.structs.replace(line, state=ABSENT)
