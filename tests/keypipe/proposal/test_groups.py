from __future__ import annotations

import pytest

from keypipe.proposal.groups import BY_NAME, propose_groups
from keypipe.splits.groups import BY_FOLDER, find_group


def name_all(pattern: str, n_groups: int, n_images: int) -> list[str]:
    return [pattern.format(group, image) for group in range(n_groups) for image in range(n_images)]


@pytest.mark.parametrize(
    ("paths", "way"),
    [
        (name_all("cam{}/{:04}.jpg", 8, 5), BY_FOLDER),
        (name_all("clip{}_frame_{:06}.png", 8, 5), BY_NAME),
        (name_all("barn-{}-{}.jpg", 8, 5), BY_NAME),
        (name_all("barn-{}-{}.png.bmp", 8, 5), BY_NAME),  # as an image that is made anew is called
        (name_all("IMG_2023041{}_1718{:02}.jpg", 8, 5), BY_NAME),
        (name_all("images/clip{}_{}.jpg", 8, 5), BY_NAME),
    ],
)
def test_folders_videos_and_sessions_are_groups(paths: list[str], way: str) -> None:
    proposal = propose_groups(paths)
    assert proposal is not None
    assert proposal.value == way
    assert "8 groups" in proposal.why
    assert len({find_group(f"raw/{path}", way) for path in paths}) == 8


def test_dates_are_groups_where_numbers_are_not() -> None:
    paths = [f"2024-03-{day:02} {hour}.{minute}.11.jpg" for day in range(1, 9) for hour in (8, 9) for minute in (1, 2)]
    proposal = propose_groups(paths)
    assert proposal is not None
    assert {find_group(f"raw/{path}", proposal.value) for path in paths} == {f"2024-03-{day:02}" for day in range(1, 9)}


@pytest.mark.parametrize(
    "paths",
    [
        name_all("cam{}/{:04}.jpg", 3, 20),  # too few
        [*name_all("cam{}/{:04}.jpg", 8, 3), *name_all("barn{}/{:04}.jpg", 1, 60)],  # one too large
    ],
)
def test_groups_that_cannot_be_dealt_out_are_told_and_not_taken(paths: list[str]) -> None:
    proposal = propose_groups(paths)
    assert proposal is not None
    assert proposal.value is None
    assert "too few to fill three splits" in proposal.why


@pytest.mark.parametrize(
    "paths", [[f"{number}.jpg" for number in range(90)], ["horse.jpg", "cow.jpg"], name_all("train/{}{}.jpg", 1, 9), []]
)
def test_names_that_tell_nothing_are_no_groups(paths: list[str]) -> None:
    assert propose_groups(paths) is None
