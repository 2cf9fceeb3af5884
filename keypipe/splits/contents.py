"""The images by their content, and which of them belong together."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.images.near_duplicates import connect, label_near_duplicates
from keypipe.splits.balance import Feature, Features, sum_features
from keypipe.splits.groups import find_version_group
from keypipe.splits.manifest import ManifestLine, parse_phash


class Sample(msgspec.Struct, frozen=True, gc=False):
    """What a split is chosen by, of one image.

    Attributes:
        path: relative to ``data/``.
        md5: hash of the image file's bytes, the identity of the image.
        features: what it counts for, see ``count_features``.
        group: images of one group stay in one split; empty for one without a group.
    """

    path: str
    md5: str
    features: Features
    group: str = ""


class Contents:
    """The images by their content, numbered: those that are there by their first path, then those known but absent.

    Attributes:
        n_present: how many of them are there; their numbers are the lowest.
        n_samples: how many images are there, copies included.
        splits: for each its splits in the manifest; two where branches disagreed.
        phashes: for each its perceptual hash as the manifest has it.
        component: for each the lowest number of what belongs together with it.
    """

    def __init__(self, samples: Sequence[Sample], known: Sequence[ManifestLine], phashes: Mapping[str, str]) -> None:
        self._numbers: dict[str, int] = {}
        self._first: list[Sample] = []
        self._copies: dict[int, list[Sample]] = {}
        self._by_group: dict[str, list[int]] = defaultdict(list)
        for sample in sorted(samples, key=lambda sample: sample.path):
            number = self._numbers.setdefault(sample.md5, len(self._first))
            if number == len(self._first):
                self._first.append(sample)
            else:
                self._copies.setdefault(number, [self._first[number]]).append(sample)
            self._group(number, sample.group, sample.path)
        self.n_present, self.n_samples = len(self._first), len(samples)
        self.phashes = [phashes.get(sample.md5, "") for sample in self._first]
        self.splits: list[tuple[str, ...]] = [()] * self.n_present
        self._add_known(known)
        self.component = array("q", self._connect(range(len(self.splits)), self._replaced(known)).tolist())

    def _add_known(self, known: Sequence[ManifestLine]) -> None:
        for line in known:
            number = self._numbers.setdefault(line.md5, len(self.splits))
            if number == len(self.splits):
                self.splits.append(())
                self.phashes.append("")
            if line.split and line.split not in self.splits[number]:
                self.splits[number] = tuple(sorted((*self.splits[number], line.split)))
            if line.phash:
                self.phashes[number] = line.phash
            if number >= self.n_present:
                self._group(number, line.group, line.image)

    def _group(self, number: int, group: str, path: str) -> None:
        """Put a content into its group, and into that of the versions of its picture if this is another one."""
        for name in dict.fromkeys(name for name in (group, find_version_group(path)) if name):
            self._by_group[name].append(number)

    def _replaced(self, known: Sequence[ManifestLine]) -> list[tuple[int, int]]:
        """Link new content to the absent one that had its path: somebody edited or replaced the picture."""
        at_path = {line.image: number for line in known if (number := self.number(line)) >= self.n_present}
        return [
            (number, at_path[sample.path])
            for number in range(self.n_present if at_path else 0)
            for sample in self.samples(number)
            if sample.path in at_path and not self.splits[number]
        ]

    def _connect(self, numbers: Sequence[int], links: Sequence[tuple[int, int]] = ()) -> NDArray[np.intp]:
        """Find what belongs together among some contents, by groups, pixels and more.

        Args:
            numbers: of the contents, rising.
            links: pairs of numbers.

        Returns:
            int (n,): for each the position, in ``numbers``, of the first that belongs to it.
        """
        position = np.full(len(self.splits), -1)
        position[np.fromiter(numbers, np.intp)] = np.arange(len(numbers))
        together = [position[some] for some in (*self._by_group.values(), *map(list, links))]
        chains = [some[some >= 0] for some in together]
        hashes = (parse_phash(self.phashes[number]) for number in numbers)
        alike = label_near_duplicates(np.fromiter(hashes, np.uint64, len(numbers)))
        if not chains:
            return alike
        firsts = np.concatenate([some[:1].repeat(len(some[1:])) for some in chains])
        return connect(alike, firsts, np.concatenate([some[1:] for some in chains]))

    def regroup(self, numbers: Sequence[int]) -> Groups:
        """Return what still belongs together when the others are away."""
        return Groups(np.array(numbers, np.int64), self._connect(numbers))

    def gather(self, numbers: Iterable[int]) -> Groups:
        """Return some contents by what belongs together."""
        some = np.fromiter(numbers, np.int64)
        return Groups(some, np.array(self.component, np.int64)[some])

    def number(self, line: ManifestLine) -> int:
        """Return the number of the content that a line of the manifest is about."""
        return self._numbers[line.md5]

    def md5(self, number: int) -> str:
        """Return the md5 of a content that is there."""
        return self._first[number].md5

    def samples(self, number: int) -> list[Sample]:
        """Return the images that have a content, sorted by path; none for an absent one."""
        return self._copies.get(number) or self._first[number : number + 1]

    def features(self, numbers: Sequence[int]) -> Features:
        """Return the features of some contents together."""
        if len(numbers) == 1 and numbers[0] not in self._copies:
            return self._first[numbers[0]].features  # one object for all that are alike
        return tuple(self.count(numbers).items())

    def count(self, numbers: Iterable[int]) -> Counter[Feature]:
        """Count the features of some contents."""
        return sum_features(sample.features for number in numbers for sample in self.samples(number))

    def crowded(self) -> list[int]:
        """Return the numbers of what is there and belongs together with something else that is there."""
        labels = np.array(self.component[: self.n_present], np.int64)
        crowded = np.bincount(labels)[labels] > 1
        crowded[list(self._copies)] = True
        return np.flatnonzero(crowded).tolist()


class Groups:
    """Numbers of contents by what belongs together; in arrays, since most are alone, and lists of one are large."""

    def __init__(self, numbers: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
        """Group numbers by their labels, in the order of the first ones."""
        _, first, place = np.unique(labels, return_index=True, return_inverse=True)
        order = np.argsort(first[place], kind="stable")
        self._numbers = numbers[order]
        self._starts = np.flatnonzero(np.diff(first[place[order]], prepend=-1))

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[list[int]]:
        for start, end in pairwise(chain(map(int, self._starts), [len(self._numbers)])):
            yield self._numbers[start:end].tolist()
