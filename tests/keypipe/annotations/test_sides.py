"""Left and right in the spellings that people use."""

from __future__ import annotations

import pytest

from keypipe.annotations.sides import find_sides


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left_ear", "right_ear"), ("EarLeft", "EarRight"), ("左耳", "右耳"), ("耳_左", "耳_右"),
        ("LH", "RH"), ("LF1", "RF1"), ("FL", "FR"), ("LFH", "RFH"),
        ("ear_l", "ear_r"), ("ear_L", "ear_R"), ("ear-l", "ear-r"), ("ear.L", "ear.R"), ("ear_L_2", "ear_R_2"),
        ("L_ear", "R_ear"), ("l_ear", "r_ear"), ("L ear", "R ear"), ("earL", "earR"), ("LEar", "REar"),
        ("lEar", "rEar"),
        ("ohr_links", "ohr_rechts"), ("Ohr links", "Ohr rechts"), ("linkes_ohr", "rechtes_ohr"),
        ("Linke Hand", "Rechte Hand"), ("main_gauche", "main_droite"), ("oreja izquierda", "oreja derecha"),
    ],
)  # fmt: skip
def test_a_pair_is_found_whichever_comes_first(left: str, right: str) -> None:
    assert find_sides(["nose", left, right]) == (((left, right),), ())
    assert find_sides([right, "nose", left]).pairs == ((right, left),)


@pytest.mark.parametrize(
    "names",
    [
        ["nose", "tail"], ["left_ear", "right_eye"], ["ear_l", "eye_r"], ["leftover", "rightover"], ["LH", "LF"],
        ["collar", "corral"], ["lear", "rear"], ["tail_l"], ["ball", "barr"], ["Linksys", "Rechtsys"],
    ],
)  # fmt: skip
def test_what_is_no_pair_stays_none(names: list[str]) -> None:
    assert find_sides(names) == ((), ())


@pytest.mark.parametrize("names", [["L1", "R1"], ["l1", "r1"], ["L", "R"], ["3l", "3r"]])
def test_what_may_mean_something_else_is_told_and_not_taken(names: list[str]) -> None:
    assert find_sides(["C1", *names]) == ((), (tuple(names),))


def test_the_corners_of_a_car_and_of_a_box() -> None:
    assert find_sides(["LF", "RF", "LR", "RR"]).pairs == (("LF", "RF"), ("LR", "RR"))
    assert find_sides(["FL", "FR", "RL", "RR"]).pairs == (("FL", "FR"), ("RL", "RR"))


def test_a_name_that_could_go_with_two_goes_with_none() -> None:
    found = find_sides(["LL", "LR", "RL", "RR"])
    assert found.pairs == ()
    assert set(found.doubts) == {("LL", "LR"), ("LL", "RL"), ("LR", "RR"), ("RL", "RR")}


def test_order_follows_the_schema() -> None:
    assert find_sides(["ear_r", "nose", "L_hoof", "ear_l", "R_hoof"]).pairs == (
        ("ear_r", "ear_l"),
        ("L_hoof", "R_hoof"),
    )
