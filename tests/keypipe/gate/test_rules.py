from __future__ import annotations

import dataclasses
import re

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from keypipe.errors import PoseError
from keypipe.gate.rules import Rules
from tests.imports import ROOT


class Section(BaseModel):
    """A section of ``params.yaml`` that holds the rules."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    gate: Rules = Rules()


def test_the_rules_are_a_part_of_a_section() -> None:
    section = Section.model_validate({"gate": {"margin_ap": 0.05, "veto_drop": None, "approvers": ["anna"]}})
    assert section.gate == Rules(margin_ap=0.05, veto_drop=None, approvers=("anna",))
    assert Section.model_validate({}).gate == Rules()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"margin_ap": 0}, "margin_ap: should be above 0 and below 1, got 0"),
        ({"floor_close": 1.5}, "floor_close: should be 0 to below 1, got 1.5"),
        ({"latency_ms": -3}, "latency_ms: should be above 0, got -3"),
        ({"margin": 0.1}, "Unexpected keyword argument"),
        ({"test": "equal"}, "'non-inferior' or 'superior'"),
        ({"approval": True}, "'none' or 'required'"),
    ],
)
def test_a_wrong_rule_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Section.model_validate({"gate": values})
    assert said in str(caught.value)


def test_all_faults_at_once_and_the_library_raises_its_own_error() -> None:
    with pytest.raises(PoseError, match=r"margin_ap: .*; veto_drop: .*; stale_after: "):
        Rules(margin_ap=2, veto_drop=-1, stale_after=0)


def test_every_rule_is_documented_with_its_default() -> None:
    page = (ROOT / "docs/retraining.md").read_text(encoding="utf-8")
    page = page.partition("\n### Rules\n")[2].partition("\n### ")[0]
    table: dict[str, object] = {}
    for names, defaults in re.findall(r"^\| (`[\w`, ]+`) \| ([^|]+) \| ", page, flags=re.MULTILINE):
        keys = re.findall(r"`(\w+)`", names)
        values = (
            yaml.safe_load(f"[{defaults.strip('` ')}]") if len(keys) > 1 else [yaml.safe_load(defaults.strip("` "))]
        )
        table |= dict(zip(keys, values * len(keys), strict=False))
    for field in dataclasses.fields(Rules):
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        assert table[field.name] == default, field.name
