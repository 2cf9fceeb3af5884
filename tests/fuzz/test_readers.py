"""A sample of ``make fuzz``: some mutated files for each reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keypipe.errors import PoseError
from tests.fuzz.__main__ import main
from tests.fuzz.attack import Stopped, Tally, attack
from tests.fuzz.mutations import mutate
from tests.fuzz.readers import READERS, Reader

N_INPUTS = 150


@pytest.mark.parametrize("name", READERS)
def test_a_reader_ends_in_a_value_or_a_refusal(name: str) -> None:
    tally = attack(name, N_INPUTS, number=0)
    assert tally.inputs >= N_INPUTS
    assert tally.values
    assert tally.refusals


@pytest.mark.parametrize("name", READERS)
def test_the_real_files_are_read(name: str) -> None:
    reader = READERS[name]()
    reader.read(reader.seeds[0])


@pytest.mark.parametrize("error", [ValueError, RecursionError, MemoryError])
def test_another_error_is_found(monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    def read(content: bytes) -> None:
        if b"nan" in content:
            raise error
        raise PoseError("refused")

    monkeypatch.setitem(READERS, "broken", lambda: Reader([b"a 1 2 3"], read))
    with pytest.raises(error):
        attack("broken", 300, number=0)


def test_a_reader_that_hangs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(_: bytes) -> None:
        while True:
            pass

    monkeypatch.setattr("tests.fuzz.attack.MAX_SECONDS", 0.2)
    monkeypatch.setitem(READERS, "hanging", lambda: Reader([b"1"], hang))
    with pytest.raises(Stopped):
        attack("hanging", 2, number=0)


def test_a_run_goes_on_from_its_state_or_from_a_given_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[int] = []

    def count(name: str, n_inputs: int, number: int) -> Tally:
        started.append(number)
        return attack(name, n_inputs, number)

    monkeypatch.setattr("tests.fuzz.__main__.PIECE", 20)
    monkeypatch.setattr("tests.fuzz.__main__.attack", count)
    state = tmp_path / "fuzz.json"
    for total in ("140", "160"):
        arguments = ["--reader", "manifest", "--start", "100", "--inputs", total, "--state", str(state)]
        monkeypatch.setattr("sys.argv", ["fuzz", *arguments])
        main()
    assert started == [100, 120, 140]
    done = json.loads(state.read_text())["manifest"]
    assert (done["inputs"], done["values"] + done["refusals"]) == (160, 60)


def test_equal_numbers_give_equal_files() -> None:
    seeds = [b'{"a": [1, 2]}', b"x y"]
    assert [mutate(seeds, number) for number in range(50)] == [mutate(seeds, number) for number in range(50)]
    assert len({mutate(seeds, number) for number in range(50)}) > 25
