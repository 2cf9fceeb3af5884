from __future__ import annotations

import pytest

from keypipe.inference.latency import ROUNDS, Measured, Setting, Timing, advise, measure


class Clock:
    """A clock that programs move on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.now

    def program(self, name: str, *seconds: float) -> object:
        """Return a program that takes these times in turn, again and again."""
        left: list[float] = []

        def run() -> None:
            left[:] = left or list(seconds)
            self.now += left.pop(0)
            self.log.append(name)

        return run


def test_median_and_95th_percentile_in_milliseconds() -> None:
    clock = Clock()
    timings = measure({"a": clock.program("a", 0.010), "b": clock.program("b", 0.001)}, 1.0, clock)  # type: ignore[dict-item]
    assert timings["a"].median_ms == pytest.approx(10)
    assert timings["a"].p95_ms == pytest.approx(10)
    assert timings["a"].runs == ROUNDS * 20  # a fifth of the second each turn
    assert timings["b"].median_ms == pytest.approx(1)
    spread = measure({"a": clock.program("a", *[0.001] * 9, 0.005)}, 1.0, clock)["a"]  # type: ignore[dict-item]
    assert spread.median_ms == pytest.approx(1)
    assert spread.p95_ms == pytest.approx(5)


def test_programs_take_turns_and_wake_up_first() -> None:
    clock = Clock()
    timings = measure({"a": clock.program("a", 1.0), "b": clock.program("b", 1.0)}, 0.5, clock)  # type: ignore[dict-item]
    assert timings["a"].runs == 2 * ROUNDS  # two a turn however long they take
    choosing, turns = clock.log[:4], clock.log[4:]
    assert choosing == ["a", "a", "b", "b"]
    assert turns == (["a"] * 3 + ["b"] * 3) * ROUNDS


def measured(batch: int, threads: int, **medians: float) -> Measured:
    return Measured(Setting(batch, threads), {name: Timing(value, value, 10) for name, value in medians.items()})


def test_the_fastest_with_the_threads_that_suit_it() -> None:
    advice = advise(
        [measured(1, 1, torch=30, onnx=20, openvino=12), measured(1, 2, torch=24, onnx=10, openvino=18)],
        "torch",
        ["onnx", "openvino", "torch"],
    )
    assert (advice.best, advice.setting, advice.median_ms) == ("onnx", Setting(1, 2), 10)
    assert advice.speedup == pytest.approx(2.4)
    assert advice.equals == []


def test_of_equally_fast_ones_the_one_that_is_liked_best() -> None:
    times = [measured(16, 2, torch=105, onnx=103, openvino=100)]
    advice = advise(times, "torch", ["onnx", "openvino", "torch"])
    assert (advice.best, advice.equals) == ("onnx", ["openvino", "torch"])
    assert advise(times, "torch", ["torch"]).speedup == 1


def test_what_was_not_timed_is_not_advised() -> None:
    assert advise([measured(1, 1, torch=10)], "torch", ["onnx", "torch"]).best == "torch"
