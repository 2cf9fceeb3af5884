"""Which images show the same picture, by their perceptual hashes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from keypipe.images.pixels import PixelFacts

MAX_DISTANCE = 6
"""Bits. On real photos and diagrams it finds copies and bursts and nothing else; figures in docs/splits.md."""


def near_duplicates(facts: Mapping[str, PixelFacts], max_distance: int = MAX_DISTANCE) -> list[list[str]]:
    """Find images that show the same picture: resized, compressed anew, slightly cropped or retouched.

    Two images are near duplicates when their hashes differ by at most ``max_distance`` bits, and so are two that are
    linked by a chain of such pairs. Exact for any number of images: two hashes that differ by at most d bits agree
    in one of d + 1 bands.

    Args:
        facts: md5 -> facts; images without a hash and even areas have no near duplicates.
        max_distance: bits, 0 to 63.

    Returns:
        Clusters of two or more: sorted md5s, in the order of their first ones.
    """
    md5s = sorted(md5 for md5, fact in facts.items() if fact.phash)
    labels = label_near_duplicates(np.array([facts[md5].phash for md5 in md5s], np.uint64), max_distance)
    clusters: dict[int, list[str]] = defaultdict(list)
    for md5, label in zip(md5s, labels.tolist(), strict=True):
        clusters[label].append(md5)
    return [cluster for cluster in clusters.values() if len(cluster) > 1]


def label_near_duplicates(hashes: NDArray[np.uint64], max_distance: int = MAX_DISTANCE) -> NDArray[np.intp]:
    """Find near duplicates as ``near_duplicates`` does, among hashes alone.

    Args:
        hashes: uint64 (n,), perceptual hashes; 0 for what has no near duplicates.
        max_distance: bits, 0 to 63.

    Returns:
        int (n,): for each the index of the first in its cluster, its own where it is alone.
    """
    labels = np.arange(len(hashes))
    looked_at = np.flatnonzero(hashes)
    values, place = np.unique(hashes[looked_at], return_inverse=True)
    _, first, place = np.unique(_components(values, max_distance)[place], return_index=True, return_inverse=True)
    labels[looked_at] = looked_at[first[place]]
    return labels


def _components(hashes: NDArray[np.uint64], max_distance: int) -> NDArray[np.intp]:
    """Label hashes, uint64 (n,), by the connected component of the pairs that differ by few bits; int (n,)."""
    labels = np.arange(len(hashes))
    for order, band in _bands(hashes, max_distance + 1):
        first = np.arange(len(hashes))
        for step in range(1, len(hashes)):
            first = first[: np.searchsorted(first, len(hashes) - step)]
            first = first[band[first] == band[first + step]]  # runs of a sorted band: they only get shorter
            if not len(first):
                break
            one, other = order[first], order[first + step]
            apart = labels[one] != labels[other]
            one, other = one[apart], other[apart]
            near = np.bitwise_count(hashes[one] ^ hashes[other]) <= max_distance
            if near.any():
                labels = connect(labels, one[near], other[near])
                if not labels.any():
                    return labels  # all are one
    return labels


def _bands(hashes: NDArray[np.uint64], n_bands: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint64]]]:
    """Yield, for each of the bands that 64 bits are cut into, the order that sorts it and its sorted values."""
    edges = np.linspace(0, 64, n_bands + 1).round().astype(int).tolist()
    for low, high in pairwise(edges):
        values = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(values, kind="stable")
        yield order, values[order]


def connect(labels: NDArray[np.intp], firsts: NDArray[np.intp], seconds: NDArray[np.intp]) -> NDArray[np.intp]:
    """Join components by pairs of their members.

    Args:
        labels: int (n,), the first member of each one's component; ``arange(n)`` where nothing is joined yet.
        firsts: int (m,), indices.
        seconds: int (m,), indices.

    Returns:
        int (n,), new labels of the same kind.
    """
    from scipy.sparse import coo_array  # most datasets never need it
    from scipy.sparse.csgraph import connected_components

    n = len(labels)
    members = np.flatnonzero(labels != np.arange(n))
    places = np.concatenate([members, firsts]), np.concatenate([labels[members], seconds])
    links = coo_array((np.ones(len(places[0]), np.int8), places), shape=(n, n))
    component = connected_components(links, directed=False)[1]
    _, first, place = np.unique(component, return_index=True, return_inverse=True)
    joined: NDArray[np.intp] = first[place]
    return joined
