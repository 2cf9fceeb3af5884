from __future__ import annotations

from itertools import combinations
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from keypipe.images.near_duplicates import near_duplicates
from keypipe.images.pixels import PixelFacts, hash_image, read_pixels
from tests.keypipe.images.test_pixels import distance, encode, md5, scene


def facts(*hashes: int | None) -> dict[str, PixelFacts]:
    return {f"{index:032x}": PixelFacts(f"{index:032x}", value, "") for index, value in enumerate(hashes)}


def test_even_areas_are_nobodys_duplicates(tmp_path: Path) -> None:
    contents = [encode(Image.new("RGB", (64, 48), (grey, grey, grey)), "PNG") for grey in (0, 1, 128, 255)]
    files: dict[str, Path] = {}
    for index, content in enumerate(contents):
        files[md5(content)] = tmp_path / f"{index}.png"
        files[md5(content)].write_bytes(content)
    found = read_pixels(files, tmp_path / "cache")
    assert {fact.phash for fact in found.values()} == {0}
    assert near_duplicates(found, 63) == []


def test_resized_and_recompressed_copies_are_found_and_other_scenes_are_not() -> None:
    hashes: list[int | None] = []
    for seed in range(30):
        image = scene(seed)
        copies = [encode(image, quality=quality) for quality in (95, 40)]
        copies += [encode(image.resize((w, w * 3 // 4)), quality=80) for w in (640, 200)]
        hashes += [hash_image(content) for content in copies]
    clusters = near_duplicates(facts(*hashes))
    assert all(len({int(md5, 16) // 4 for md5 in cluster}) == 1 for cluster in clusters)
    assert sum(len(cluster) for cluster in clusters) >= 0.95 * len(hashes)


@settings(max_examples=60)
@given(
    st.lists(st.one_of(st.none(), st.integers(0, 255), st.integers(0, 2**64 - 1)), max_size=25),
    st.integers(0, 12),
    st.randoms(),
)
def test_clusters_are_exact_and_in_any_order(hashes: list[int | None], limit: int, random: object) -> None:
    found = facts(*hashes)
    clusters: list[set[str]] = [{md5} for md5, fact in found.items() if fact.phash]
    for (one, first), (two, second) in combinations(found.items(), 2):
        if first.phash and second.phash and distance(first.phash, second.phash) <= limit:
            linked = [cluster for cluster in clusters if one in cluster or two in cluster]
            clusters = [cluster for cluster in clusters if cluster not in linked] + [set().union(*linked)]
    expected = sorted(sorted(cluster) for cluster in clusters if len(cluster) > 1)
    assert near_duplicates(found, limit) == expected
    assert near_duplicates(dict(reversed(found.items())), limit) == expected
