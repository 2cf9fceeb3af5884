from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from keypipe.serving.queue import BoundedQueue, FullError, GoneError


async def stays() -> bool:
    return False


async def has_left() -> bool:
    return True


@pytest.fixture
def queue() -> Iterator[BoundedQueue]:
    made = BoundedQueue(workers=2, waiting=1)
    yield made
    made.close()


def test_places_are_bounded_and_given_back(queue: BoundedQueue) -> None:
    with queue.place(), queue.place(), queue.place():
        assert queue.taken == queue.places == 3
        with pytest.raises(FullError, match="all 3 places are taken; try again in 1 s") as caught, queue.place():
            pass
        assert caught.value.retry_after_s == 1
    assert queue.taken == 0
    with pytest.raises(ZeroDivisionError), queue.place():
        _ = 1 / 0
    assert queue.taken == 0


def test_at_most_as_many_run_as_there_are_workers_and_in_order(queue: BoundedQueue) -> None:
    running, most, began = 0, 0, []
    lock = threading.Lock()

    def job(number: int) -> int:
        nonlocal running, most
        with lock:
            began.append(number)
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return number

    async def all_jobs() -> list[int]:
        return await asyncio.gather(*(queue.run(lambda _waited, n=n: job(n), stays) for n in range(8)))

    assert asyncio.run(all_jobs()) == list(range(8))
    assert most == 2
    assert [sorted(began[at : at + 2]) for at in range(0, 8, 2)] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_a_job_learns_how_long_it_has_waited(queue: BoundedQueue) -> None:
    def job(waited_s: float) -> float:
        time.sleep(0.1)
        return waited_s

    async def four() -> list[float]:
        return await asyncio.gather(*(queue.run(job, stays) for _ in range(4)))

    waited = asyncio.run(four())
    assert max(waited[:2]) < 0.09
    assert min(waited[2:]) > 0.09


def test_who_has_left_is_not_served_and_holds_nobody_up(queue: BoundedQueue) -> None:
    ran = []

    async def several() -> list[BaseException | None]:
        jobs = [queue.run(ran.append, has_left if n < 4 else stays) for n in range(6)]
        return await asyncio.gather(*jobs, return_exceptions=True)

    results = asyncio.run(several())
    assert [type(result) for result in results] == [GoneError] * 4 + [type(None)] * 2
    assert len(ran) == 2


def test_errors_pass_through_and_free_the_worker(queue: BoundedQueue) -> None:
    def fail(_waited_s: float) -> None:
        raise ValueError("no")

    async def several() -> list[BaseException | None]:
        return await asyncio.gather(*(queue.run(fail, stays) for _ in range(5)), return_exceptions=True)

    assert [str(error) for error in asyncio.run(several())] == ["no"] * 5


def test_how_long_to_stay_away_follows_from_the_jobs_times() -> None:
    queue = BoundedQueue(workers=1, waiting=2)

    async def one() -> None:
        await queue.run(lambda _waited: time.sleep(0.5), stays)

    asyncio.run(one())
    with queue.place(), queue.place(), queue.place(), pytest.raises(FullError) as caught, queue.place():
        pass
    assert 2 <= caught.value.retry_after_s <= 4  # three jobs of half a second and a bit
    queue.close()
