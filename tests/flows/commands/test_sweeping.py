from __future__ import annotations

from pathlib import Path

import pytest

from flows.commands.sweeping import Wish, sweep_main
from flows.sweeping.study import Plan, write_plan
from keypipe.errors import ConfigError

LR0 = "train.lr0=log:0.001..0.01"


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish("rates", fixed=["train.epochs=9"], trials=5), "--set train.epochs=4"),
        (Wish("rates", [LR0], trials=5), "--set train.epochs=4"),
        (Wish("rates", sampler="random", trials=5), "--sampler tpe"),
        (Wish("rates", seed=1), "--seed 3"),
        (Wish("rates", pruned=True, trials=5), "--no-pruning"),
        (Wish("rates", ["train.lr0=0.1..0.2"]), f"was started with {LR0}"),
    ],
)
def test_what_a_sweep_was_started_with_stays(tmp_path: Path, wish: Wish, said: str) -> None:
    write_plan(tmp_path, "rates", Plan((LR0,), ("train.epochs=4",), "oks_AP", None, "c0ffee", seed=3, pruned=False))
    with pytest.raises(ConfigError) as refused:
        sweep_main(tmp_path, wish)
    assert said in str(refused.value)
    assert "go on with `keypipe sweep rates --trials N`" in str(refused.value)


def test_a_sweep_is_shown_with_what_it_was_started_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_plan(tmp_path, "rates", Plan((LR0,), ("train.epochs=4",), "oks_AP", None, "c0ffee", seed=3))
    assert sweep_main(tmp_path, Wish("rates", fixed=["train.epochs=4"], seed=3, pruned=True)) == 0
    assert "0 trials; none is complete" in capsys.readouterr().out
