"""Work in several threads is taken in its order, and what was done before an interruption is kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import pytest

from keypipe.batch import workers as module
from keypipe.batch.sources import Source
from keypipe.batch.workers import AHEAD, FRAMES_AHEAD, InOrder, choose_workers, count_cores, opencv_in_one_thread
from tests.patience import PATIENCE

IMAGE = Source(Path("a.jpg"), Path("a.jpg"))
FILM = Source(Path("a.mp4"), Path("a.mp4"))
CAMERA = Source(Path("camera0"), Path("camera0"), "0")


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_their_items(workers: int) -> None:
    assert list(InOrder(lambda number: number**2, range(100), workers)) == [number**2 for number in range(100)]
    assert list(InOrder(lambda number: number, [], workers)) == []


@pytest.mark.parametrize(("ahead", "most"), [(AHEAD, 10), (FRAMES_AHEAD, 4)])
def test_the_first_result_waits_for_its_own_item_alone_and_few_are_begun_ahead(ahead: int, most: int) -> None:
    asked: list[int] = []
    may_go = threading.Event()

    def items() -> Iterator[int]:
        for number in range(1000):
            asked.append(number)
            yield number

    def work(number: int) -> int:
        if number == 1:
            may_go.wait(PATIENCE)
        return number

    with closing(iter(InOrder(work, items(), 2, ahead))) as results:
        assert next(results) == 0
        assert len(asked) <= most
        may_go.set()


@pytest.mark.parametrize("workers", [1, 3])
def test_what_work_raises_is_raised_where_its_result_is_taken(workers: int) -> None:
    def work(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    taken: list[int] = []
    ordered = InOrder(work, range(50), workers)
    with pytest.raises(ValueError, match="three"), closing(iter(ordered)) as results:
        taken.extend(results)
    assert taken == [0, 1, 2]
    assert set(ordered.rest()) <= set(range(4, 50))


def test_what_was_begun_is_in_the_rest_and_what_was_not_is_dropped() -> None:
    begun: list[int] = []
    all_busy, may_go = threading.Event(), threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if len(begun) == 3:
            all_busy.set()
        if number:
            may_go.wait(PATIENCE)
        return number

    ordered = InOrder(work, range(1000), 2)
    results = iter(ordered)
    assert next(results) == 0
    assert all_busy.wait(PATIENCE)
    threading.Timer(0.05, may_go.set).start()
    results.close()
    rest = list(ordered.rest())
    assert rest == sorted(set(begun) - {0})
    assert len(rest) < 20


def test_one_worker_for_an_image_and_a_stream_and_one_a_core_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "count_cores", lambda: 8)
    assert choose_workers([IMAGE], None) == 1
    assert choose_workers([IMAGE] * 3, None) == 3
    assert choose_workers([IMAGE] * 100, None) == 8
    assert choose_workers([IMAGE] * 100, 2) == 2
    assert choose_workers([FILM], None) == 8
    assert choose_workers([CAMERA], None) == 1


def test_cores_are_those_that_the_process_may_use() -> None:
    assert count_cores() >= 1


def _interrupt(threads: int) -> None:
    assert threads == 1
    raise KeyboardInterrupt


def test_opencv_has_its_threads_again_afterwards() -> None:
    before = cv2.getNumThreads()
    with pytest.raises(KeyboardInterrupt), opencv_in_one_thread(True):
        _interrupt(cv2.getNumThreads())
    assert cv2.getNumThreads() == before
    with opencv_in_one_thread(False):
        assert cv2.getNumThreads() == before
