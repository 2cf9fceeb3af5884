"""Whether to train: every reason alone, none, and what was judged already."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.registry.registration import SETTLED
from tasks.retraining.decision import decide
from tasks.retraining.made_of import Change, count_changed, judged_last, list_differences
from tasks.retraining.settings import RetrainParams
from tasks.tracking.models.registry import Version

SETTINGS = RetrainParams(changed_images=20, changed_share=0.1, max_age_days=30)


def change(**values: Any) -> Change:
    usual = {"version": "3", "images": 0, "of": 400, "params": (), "code": (), "age_days": 2.0, "gate": "promoted"}
    return Change(**(usual | values))


def test_without_a_model_in_use_a_training_is_due() -> None:
    found = decide(SETTINGS, None, None)
    assert (found.train, found.reason) == (True, "no model is in use yet")


def test_nothing_changed_is_no_reason() -> None:
    found = decide(SETTINGS, change(), None)
    assert (found.train, found.champion) == (False, "3")
    assert found.reason == "nothing that a training learns from changed since v3"


@pytest.mark.parametrize(
    ("values", "settings", "reason"),
    [
        ({"images": 20}, {}, "20 images or labels changed since the champion's 400 (5%; trained from 20 or 10% on)"),
        ({"images": 4, "of": 40}, {}, "4 images or labels changed since the champion's 40 (10%"),
        ({"images": 25, "of": 40}, {"changed_images": None}, "trained from 10% on"),
        ({"images": 25}, {"changed_share": None}, "trained from 20 on"),
        ({"params": ("train.epochs: 2 -> 3",)}, {}, "parameters changed since the champion: train.epochs: 2 -> 3"),
        ({"code": ("tasks/train.py",)}, {}, "what a training reads beside the data changed since the champion: tasks/"),
        ({"age_days": 31.0, "images": 1}, {}, "the champion is 31.0 days old (trained from 30 on)"),
        ({"images": None}, {}, "what changed since the champion's data cannot be told"),
    ],
)
def test_each_reason_alone(values: dict[str, Any], settings: dict[str, Any], reason: str) -> None:
    found = decide(SETTINGS.model_copy(update=settings), change(**values), None)
    assert found.train
    assert reason in found.reason


def test_below_the_limits_there_is_no_reason() -> None:
    found = decide(SETTINGS, change(images=19), None)
    assert not found.train
    assert found.reason == "only 19 of 400 images or labels changed (5%) since v3"
    off = RetrainParams(changed_images=None, changed_share=None)
    assert not decide(off, change(images=400), None).train


def test_an_old_champion_is_trained_anew_only_if_anything_changed() -> None:
    assert not decide(SETTINGS, change(age_days=300.0), None).train
    assert decide(SETTINGS, change(age_days=300.0, code=("tasks/train.py",)), None).train


def test_what_was_judged_already_is_not_trained_again() -> None:
    champion = change(images=100)
    found = decide(SETTINGS, champion, change(version="4", images=3, gate="rejected"))
    assert not found.train
    assert found.reason == (
        "v4 was trained on what is here and was rejected; only 3 of 400 images or labels changed (1%) since"
    )
    assert decide(SETTINGS, champion, change(version="4", images=21, gate="rejected")).train
    assert decide(SETTINGS, None, change(version="4", gate="undecided")).train is False


def test_a_person_who_asks_is_obeyed() -> None:
    found = decide(SETTINGS, change(), change(version="4"), "new camera")
    assert (found.train, found.reason) == (True, "asked for: new camera")


def test_what_is_not_at_hand_is_said() -> None:
    found = decide(SETTINGS, change(code=None), None)
    assert found.notes == ("parameters and code of v3 are not at hand, and were not compared",)
    assert "neither DVC's cache nor its remote" in decide(SETTINGS, change(images=None), None).notes[0]


def test_an_image_and_its_labels_count_once() -> None:
    before = {"a.jpg": "1", "a.json": "2", "b.jpg": "3", "b.json": "4", "c.jpg": "5"}
    now = {"a.jpg": "1", "a.json": "9", "b.jpg": "8", "b.json": "7", "d/a.jpg": "1"}
    assert count_changed(before, now) == 4  # a relabelled, b other pixels, c gone, d/a new
    assert count_changed(before, before) == 0


def test_differences_of_sections_name_single_parameters() -> None:
    before = {"epochs": 2, "loss_sigma": {"from": 0.3, "to": 0.1}, "old": 1}
    now = {"epochs": 3, "loss_sigma": {"from": 0.3, "to": 0.2}}
    assert list_differences("train", before, now) == [
        "train.epochs: 2 -> 3",
        "train.loss_sigma.to: 0.1 -> 0.2",
        "train.old: 1 -> none",
    ]


def test_the_version_of_the_last_verdict_counts_whatever_its_number() -> None:
    def version(number: str, settled: str = "") -> Version:
        return Version(number, "run", 0.0, "READY", {SETTLED: settled} if settled else {})

    second = version("2", "2026-03-01T02:00:00.000+00:00")
    again = version("1", "2026-03-02T02:00:00.000+00:00")
    assert judged_last([version("3"), second, again]) is again  # what v1 learnt from came back
    assert judged_last([version("3"), second, version("1")]) is second
    assert judged_last([version("3")]) is None  # its verdict was not carried out
