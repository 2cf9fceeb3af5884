"""Which test images may judge: by their bytes, on the test split of every manifest."""

from __future__ import annotations

from keypipe.dataset.coco import CocoFile, CocoImage
from keypipe.splits.manifest import ABSENT, Manifest, ManifestLine
from tasks.retraining.jury import choose_images


def manifest(**splits: str) -> Manifest:
    """A manifest of images by the letters of their bytes, such as ``test="abc"``."""
    lines = [ManifestLine(f"raw/{split}-{md5}.png", md5, split) for split, letters in splits.items() for md5 in letters]
    return Manifest(tuple(lines))


def truth(letters: str) -> CocoFile:
    return CocoFile([CocoImage(n, f"raw/test-{md5}.png", 8, 8, md5) for n, md5 in enumerate(letters, 1)], [], [])


def letters(images: list[CocoImage]) -> str:
    return "".join(image.md5 for image in images)


def test_images_of_both_test_splits_judge_and_new_ones_are_told_apart() -> None:
    chosen = choose_images(truth("abcd"), manifest(test="abcd", train="xy"), {"champion": manifest(test="ab")})
    assert (letters(chosen.common), letters(chosen.new), chosen.left_out) == ("ab", "cd", {})


def test_what_another_model_learnt_from_or_was_chosen_by_does_not_judge() -> None:
    others = {"champion": manifest(test="a", train="b", val="c")}
    chosen = choose_images(truth("abc"), manifest(test="abc"), others)
    assert letters(chosen.common) == "a"
    assert chosen.left_out == {"in train of the champion": 1, "in val of the champion": 1}


def test_a_copy_under_another_name_counts_as_the_image() -> None:
    own = manifest(test="ab", train="b")  # b is on the test split, and its copy in train
    chosen = choose_images(truth("ab"), own, {"champion": manifest(test="ab")})
    assert letters(chosen.common) == "a"
    assert chosen.left_out == {"not on the test split of the challenger's manifest alone": 1}


def test_every_model_that_was_ever_in_use_has_a_say() -> None:
    others = {"champion": manifest(test="abc"), "v2": manifest(test="ab", train="c")}
    chosen = choose_images(truth("abcd"), manifest(test="abcd"), others)
    assert (letters(chosen.common), letters(chosen.new)) == ("ab", "d")
    assert chosen.left_out == {"in train of the v2": 1}


def test_an_image_that_was_away_keeps_its_split() -> None:
    away = Manifest((ManifestLine("raw/old.png", "a", "train", state=ABSENT),))
    assert choose_images(truth("a"), manifest(test="a"), {"champion": away}).left_out == {"in train of the champion": 1}
    gone = Manifest((ManifestLine("raw/old.png", "a", "test", state=ABSENT),))
    assert choose_images(truth("a"), gone, {}).left_out


def test_without_another_model_all_test_images_judge() -> None:
    assert letters(choose_images(truth("ab"), manifest(test="ab"), {}).common) == "ab"
