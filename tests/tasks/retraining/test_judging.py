"""Models before the gate, through their ONNX files: equal ones, worse ones, other schemas, and the best of before."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from keypipe.gate.rules import Rules
from keypipe.keypoints.skeleton import Schema, parse_schema
from tasks.registry.moves.aliases import open_registry, promote, read_state
from tasks.retraining.judging import SEEN, CannotJudgeError, Judgement, judge
from tasks.retraining.page import write_page
from tasks.tracking.models.packaging import save_package
from tests.flows.retraining.fixtures import Farm
from tests.onnx_files import metadata_of, raw_output, write_constant_model
from tests.retrained import BOX, PLACES

RULES = Rules(margin_ap=0.1, margin_close=0.1, veto_drop=None)


def schema_of(*keypoints: str, name: str = "cow") -> Schema:
    return parse_schema({"classes": {name: {"keypoints": list(keypoints), "skeleton": [], "pairs": "auto"}}})


def write_model(path: Path, off_px: float = 0.0, schema: Schema | None = None) -> Path:
    """Write a model that says the same of every image, keypoints so many pixels away from where they are."""
    schema = schema or schema_of(*PLACES)
    (name,) = schema.class_names
    box = [(BOX[0] + BOX[2]) / 2, (BOX[1] + BOX[3]) / 2, BOX[2] - BOX[0], BOX[3] - BOX[1]]
    points = {key: (*(value + off_px for value in PLACES.get(key, (9.0, 9.0))), 0.9) for key in schema.slots}
    return write_constant_model(path, raw_output(schema, [(name, 0.9, box, points)]), metadata_of(schema))


def add_version(root: Path, off_px: float, *, with_manifest: bool = True) -> str:
    """Register a model beside the champion."""
    registry = open_registry(root)
    (champion,) = [version for version in read_state(root).versions if version.number == "1"]
    network = write_model(root.parent / "other.onnx", off_px)
    example = next((root / "data/raw").glob("*.png")).read_bytes()

    def save(folder: Path) -> None:
        save_package(folder, network, example, {})
        if with_manifest:
            shutil.copy2(root / "data/dataset/manifest.csv", folder / "manifest.csv")

    return registry.add_version(champion.tags["keypipe.run"], save, "", {"keypipe.run": "another"})


def ask(farm: Farm, rules: Rules = RULES, **more: Any) -> Judgement:
    return judge(farm.root, read_state(farm.root), rules, more.get("errors", 0))


def states(judgement: Judgement, against: str) -> dict[str, str]:
    return {rule.name: rule.state for rule in judgement.verdict.rules if rule.against == against}


def test_equal_worse_and_unknown(farm: Farm) -> None:
    write_model(farm.root / "exports/model.onnx", 0.1)
    equal = ask(farm)
    assert equal.verdict.outcome == "promoted", equal.verdict.reason
    assert equal.verdict.images == 72
    assert (equal.left_out, equal.best, equal.champion, equal.draw) == ({}, "", "1", 1)
    assert (equal.verdict.judged, equal.verdict.unit) == (1, "image")
    assert list((farm.root / SEEN).glob("*.msgpack"))
    again = ask(farm)
    assert again.verdict == equal.verdict  # from what both saw before

    close = ask(farm, Rules(margin_ap=0.001, margin_close=0.001))
    assert close.verdict.outcome == "undecided"
    assert "72 images are too few to tell" in close.verdict.reason
    assert close.verdict.suffices is not None
    assert not close.verdict.needs_approval
    assert ask(farm, Rules(margin_ap=0.001, margin_close=0.001, approvers=("anna",))).verdict.needs_approval

    write_model(farm.root / "exports/model.onnx", 8.0)
    worse = ask(farm)
    assert worse.verdict.outcome == "rejected"
    assert states(worse, "champion")["oks_AP"] == "failed"
    assert ask(farm, errors=2).verdict.outcome == "rejected"

    write_model(farm.root / "exports/model.onnx", 0.1)
    (farm.root / "reports/export/report.json").unlink()
    unproven = ask(farm)
    assert unproven.verdict.outcome == "undecided"
    assert unproven.verdict.reason == "parity: not measured"
    page = write_page(farm.root, worse, ["new camera"], {"in use": "v1"})
    assert "new camera" in (farm.root / page).read_text()


def test_models_of_other_schemas_are_compared_on_what_both_know(farm: Farm) -> None:
    write_model(farm.root / "exports/model.onnx", schema=schema_of("nose", "left_ear", "right_ear", "hoof"))
    found = ask(farm)
    assert found.verdict.left_out == ["cow tail: unknown to the challenger"]
    assert {veto.name for veto in ask(farm, Rules(margin_ap=0.1, margin_close=0.1)).verdict.vetoes} == {
        "cow nose", "cow left_ear", "cow right_ear",
    }  # fmt: skip
    write_model(farm.root / "exports/model.onnx", schema=schema_of("nose", name="pig"))
    with pytest.raises(CannotJudgeError, match="no class with a common keypoint"):
        ask(farm)


def test_a_challenger_is_held_against_the_best_that_was_ever_in_use(farm: Farm) -> None:
    promote(farm.root, add_version(farm.root, 5.0), why="by hand, and worse")
    write_model(farm.root / "exports/model.onnx", 5.0)
    crept = ask(farm)
    assert (crept.champion, crept.best) == ("2", "1")
    assert states(crept, "champion")["oks_AP"] == "passed"
    assert states(crept, "best")["oks_AP"] == "failed"
    assert crept.verdict.outcome == "rejected"
    assert ask(farm, Rules(margin_ap=0.1, margin_close=0.1, no_creep=False)).verdict.outcome == "promoted"
    write_model(farm.root / "exports/model.onnx", 0.1)
    assert ask(farm).verdict.outcome == "promoted"


def test_a_version_that_nobody_knows_the_images_of_cannot_be_compared(farm: Farm) -> None:
    promote(farm.root, add_version(farm.root, 0.0, with_manifest=False), why="by hand")
    with pytest.raises(CannotJudgeError, match=r"which images v2 of farm learnt from is not known here"):
        ask(farm)


def test_images_that_changed_under_the_manifest_do_not_judge(farm: Farm) -> None:
    for path in (farm.root / "data/raw").glob("*.png"):
        path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CannotJudgeError, match="is no longer the image that was split"):
        ask(farm)
