"""What benchmarks/drawing_order.py measures is what it says; the demo keeps its links however it was drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks import drawing_order as benchmark
from benchmarks.doctor import DEMO
from benchmarks.drawing_order import Drawn, Object, Picture
from keypipe.demo.scene import write_demo


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Picture]:
    """Some of the demo with boxes half as large again; without groups a third of its points lie in several."""
    raw = tmp_path_factory.mktemp("demo") / "raw"
    write_demo(raw, 60, 0, size_wh=(160, 120))
    return [benchmark.widen(picture, 0.5) for picture in benchmark.read_pictures(raw, DEMO)]


def arrange(pictures: Sequence[Picture], order: str) -> list[Drawn]:
    rng = np.random.default_rng(0)
    return [benchmark.draw(picture, benchmark.ORDERS[order], rng) for picture in pictures]


def to_links(drawn: Drawn) -> set[tuple[object, ...]]:
    return {
        (drawn.shapes[point].label, *drawn.shapes[point].points, *drawn.shapes[box].points)
        for point, box in drawn.owner.items()
    }


@pytest.mark.parametrize("order", benchmark.ORDERS)
def test_an_order_changes_neither_shapes_nor_whose_they_are(pictures: Sequence[Picture], order: str) -> None:
    as_drawn, arranged = arrange(pictures, "box, then its points"), arrange(pictures, order)
    assert [to_links(drawn) for drawn in arranged] == [to_links(drawn) for drawn in as_drawn]
    assert sum(map(benchmark.count_contested, arranged)) > 100


@pytest.mark.parametrize("order", [order for order in benchmark.ORDERS if order != "no order"])
def test_a_folder_drawn_by_a_habit_keeps_all_links_without_its_groups(pictures: Sequence[Picture], order: str) -> None:
    found = benchmark.read_as_folder(arrange(pictures, order), DEMO)
    assert (found["wrong"], found["asked"]) == (0, 0)


def test_a_folder_in_no_order_is_linked_by_place_as_far_as_that_goes(pictures: Sequence[Picture]) -> None:
    drawn = arrange(pictures, "no order")
    contested = sum(map(benchmark.count_contested, drawn))
    assert benchmark.read_as_folder(drawn, DEMO)["wrong"] < 0.1 * contested
    assert sum(map(benchmark.count_wrong_by_order_alone, drawn)) > contested


def test_wrong_links_and_questions_are_counted() -> None:
    picture = Picture(
        (100, 100),
        [
            Object("cow", (0, 0, 60, 100), {"nose": (10, 50), "withers": (50, 50)}),
            Object("cow", (40, 0, 100, 100), {"nose": (90, 50)}),
        ],
    )
    (drawn,) = arrange([picture], "box, then its points")
    assert drawn.owner == {1: 0, 2: 0, 4: 3}
    assert benchmark.count_contested(drawn) == 1
    assert benchmark.count_wrong_by_order_alone(drawn) == 0
    assert benchmark.count_wrong_by_order_alone(Drawn(drawn.size_wh, drawn.shapes, {1: 0, 2: 3, 4: 3})) == 1
    exchanged = Drawn(drawn.size_wh, drawn.shapes, {1: 3, 2: 0, 4: 0})
    assert benchmark.read_alone([drawn], DEMO) == {"wrong": 0, "asked": 0}
    assert benchmark.read_alone([exchanged], DEMO) == {"wrong": 2, "asked": 0}


def test_a_crowd_lies_on_its_picture() -> None:
    animals = [Object("cow", (10, 10, 110, 60), {"nose": (20, 30), "withers": (60, 12)})] * 10
    crowd = benchmark.draw_crowd(animals, 2.0, np.random.default_rng(0))
    assert len(crowd.objects) == benchmark.N_ANIMALS
    assert crowd.size_wh == (141, 141)
    for item in crowd.objects:
        left, top, right, bottom = item.box_xyxy
        assert 0 <= left < right <= 141
        assert 0 <= top < bottom <= 141
        assert all(left <= x <= right and top <= y <= bottom for x, y in item.keypoints.values())
