from __future__ import annotations

import pytest

from keypipe.errors import AnnotationError
from keypipe.exchange.deeplabcut import parse_collected_data
from keypipe.keypoints.instances import Instance, Keypoint

SINGLE = """scorer,Ann,Ann,Ann,Ann
bodyparts,snout,snout,tail,tail
coords,x,y,x,y
labeled-data/day 1/img001.png,10.5,20,30.5,40
labeled-data/day 1/img002.png,,,,
labeled-data/day 1/img003.png,5,6,,
"""

THREE_COLUMNS = """scorer,,,Ann,Ann,Ann,Ann
bodyparts,,,snout,snout,tail,tail
coords,,,x,y,x,y
labeled-data,day 1,img001.png,10.5,20,30.5,40
"""

SEVERAL = """scorer,,,Ann,Ann,Ann,Ann,Ann,Ann,Ann,Ann,Ann,Ann
individuals,,,m1,m1,m1,m1,m2,m2,m2,m2,single,single
bodyparts,,,snout,snout,tail,tail,snout,snout,tail,tail,lamp,lamp
coords,,,x,y,x,y,x,y,x,y,x,y
labeled-data,cage,img7.png,1,2,3,4,11,12,13,14,,
labeled-data,cage,img8.png,,,,,11,12,13,14,90,91
"""


GERMAN = SINGLE.replace(",", ";").replace("10.5", "10,5").replace("30.5", "30,5")


@pytest.mark.parametrize(
    "text",
    [SINGLE, THREE_COLUMNS, "\ufeff" + SINGLE.replace("\n", "\r\n"), GERMAN, SINGLE.replace(",", "\t"), "\n" + SINGLE],
)
def test_one_animal(text: str) -> None:
    labels = parse_collected_data(text, class_name="mouse", margin=0.1)
    first = labels.images[0]
    assert first.name == "labeled-data/day 1/img001.png"
    points = {"snout": Keypoint(10.5, 20), "tail": Keypoint(30.5, 40)}
    assert first.instances == [Instance("mouse", (8.5, 18, 32.5, 42), points)]
    assert labels.schema.classes["mouse"].keypoints == ("snout", "tail")
    assert labels.repairs["boxes derived from the points, with a margin of 0.1 of their extent (--box-margin)"] == 1
    assert not labels.faults


def test_skipped_frames_are_left_out_and_a_lone_point_gets_no_box() -> None:
    labels = parse_collected_data(SINGLE)
    assert [image.name[-10:] for image in labels.images] == ["img001.png", "img003.png"]
    assert labels.images[1].loose == [{"snout": Keypoint(5, 6)}]
    assert labels.losses == {"frames without any labelled point, left out": 1}
    assert labels.repairs["objects whose points have no extent get no box; draw one in labelme"] == 1


def test_several_animals_and_what_is_nobodys() -> None:
    labels = parse_collected_data(SEVERAL, class_name="mouse", margin=0)
    assert {name: skeleton.keypoints for name, skeleton in labels.schema.classes.items()} == {
        "mouse": ("snout", "tail"),
        "single": ("lamp",),
    }
    assert [[instance.box_xyxy for instance in image.instances] for image in labels.images] == [
        [(1, 2, 3, 4), (11, 12, 13, 14)],
        [(11, 12, 13, 14)],
    ]
    assert labels.images[1].loose == [{"lamp": Keypoint(90, 91)}]


def test_edges_come_from_the_projects_configuration() -> None:
    config = {"skeleton": [["snout", "tail"], ["snout", "gone"]]}
    assert parse_collected_data(SINGLE, config=config).schema.classes["animal"].edges == (("snout", "tail"),)


def test_a_cell_that_is_no_number_is_a_fault() -> None:
    labels = parse_collected_data(SINGLE.replace("30.5", "x"), "CollectedData_Ann.csv")
    assert [(fault.file, fault.shape) for fault in labels.faults] == [("CollectedData_Ann.csv", 3)]
    assert labels.images[0].faulty


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", SINGLE.replace("coords", "coord")])
def test_other_files_are_refused(text: str) -> None:
    with pytest.raises(AnnotationError, match="the first rows must be"):
        parse_collected_data(text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "snout,snout,tail,tail",
            "tail ,tail ,tail,tail",
            "c.csv: the body part 'tail' stands there twice, with 'x' in",
        ),
        ("snout,snout,tail,tail", "snout,snout,,", "c.csv: column 4 has no body part"),
        ("x,y,x,y", "x,y,x,likelihood", "c.csv: the body part 'tail' has columns for x, likelihood, and needs x and y"),
    ],
)
def test_body_parts_that_are_not_whole_are_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        parse_collected_data(SINGLE.replace(old, new), "c.csv")


def test_body_parts_of_several_animals_are_told_apart() -> None:
    text = SEVERAL.replace("m2,m2,m2,m2", "m1,m1,m1,m1")
    with pytest.raises(AnnotationError, match=r"the body part 'snout' of 'm1' stands there twice"):
        parse_collected_data(text)


def test_names_are_read_in_their_normal_form() -> None:
    labels = parse_collected_data(SINGLE.replace("snout,snout", "ｓnout , snout"))
    assert labels.schema.classes["animal"].keypoints == ("snout", "tail")
    assert [*labels.images[0].instances[0].keypoints] == ["snout", "tail"]
