from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from keypipe.proposal.values import Proposal
from tasks.starting.choices import ABSENT, SHIPPED, choose, find_value, read_last, remember
from tests.imports import ROOT


def test_shipped_values_are_those_of_the_file() -> None:
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert {key: find_value(document, key) for key in SHIPPED} == SHIPPED


def test_a_value_is_a_persons_if_it_is_neither_shipped_nor_proposed_last(tmp_path: Path) -> None:
    document = {"train": {"imgsz": 640, "batch": 16, "epochs": 300, "mosaic": 0.0}}
    proposals = [
        Proposal(f"train.{key}", value, "because")
        for key, value in {"imgsz": 320, "batch": 8, "epochs": 100, "mosaic": 0.0, "degrees": 10.0}.items()
    ]
    remember(tmp_path, {"train.epochs": 300})
    choices = {choice.proposal.key: choice for choice in choose(document, proposals, tmp_path)}
    assert {key: choice.owner for key, choice in choices.items()} == {
        "train.imgsz": "user",
        "train.batch": "nobody",
        "train.epochs": "nobody",
        "train.mosaic": "nobody",
        "train.degrees": "nobody",
    }
    assert [key for key, choice in choices.items() if choice.is_overriding] == ["train.imgsz"]
    assert not choices["train.mosaic"].is_new
    assert choices["train.degrees"].now == ABSENT


def test_what_was_written_is_remembered_until_the_file_is_gone_or_damaged(tmp_path: Path) -> None:
    remember(tmp_path, {"train.imgsz": 320})
    remember(tmp_path, {"train.batch": 8})
    assert read_last(tmp_path) == {"train.imgsz": 320, "train.batch": 8}
    (tmp_path / ".keypipe/proposed.json").write_text("{")
    assert read_last(tmp_path) == {}
    assert read_last(tmp_path / "elsewhere") == {}


@pytest.mark.parametrize(("now", "proposed"), [(True, 1), (0, False), (1, 1.5)])
def test_values_of_another_kind_are_new(now: object, proposed: object, tmp_path: Path) -> None:
    (choice,) = choose({"a": {"b": now}}, [Proposal("a.b", proposed, "because")], tmp_path)
    assert choice.is_new
