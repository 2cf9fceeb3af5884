"""A served schedule lives through what happens to a workspace: nothing new, good labels, bad ones, a rollback.

``KEYPIPE_E2E_IMAGES``, ``_NEW``, ``_EPOCHS`` and ``_MARGIN`` size it; as it stands the gate is the shipped one.
``KEYPIPE_E2E_TRAINING=real`` trains the demo for real: of its 2,048 images 60 % are the test split, which gives the
shipped margins 80 % power for trainings that start anew (docs/retraining.md). On a CPU that takes hours; 400 images and
a margin of 0.1 take less.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from keypipe.gate.rules import Rules
from keypipe.splits.power import JOINT_POWER, groups_needed
from tests.flows.notifications.receivers import receiving
from tests.flows.retraining.herd import Herd, Poller, read_events, upload
from tests.served import serving

REAL = os.environ.get("KEYPIPE_E2E_TRAINING", "stand-in") == "real"
IMAGES = int(os.environ.get("KEYPIPE_E2E_IMAGES", "2048" if REAL else "640"))
NEW = int(os.environ.get("KEYPIPE_E2E_NEW", str(IMAGES // 4)))
EPOCHS = int(os.environ.get("KEYPIPE_E2E_EPOCHS", "70"))
PATIENCE_S = float(os.environ.get("KEYPIPE_E2E_PATIENCE_S", "36000" if REAL else "1200"))
MARGIN = float(os.environ.get("KEYPIPE_E2E_MARGIN", Rules().margin_ap))
SPREAD = 0.21 if REAL else 0.08
"""Standard deviation of an image's difference between two models: trained anew, or nearly the same (the stand-ins)."""


@pytest.mark.slow
@pytest.mark.timeout(8 * PATIENCE_S)
def test_a_schedule_promotes_what_is_good_rejects_what_is_bad_and_is_rolled_back(tmp_path: Path) -> None:
    assert groups_needed(SPREAD, MARGIN, JOINT_POWER) <= 0.6 * IMAGES, "too few test images to tell"
    herd = Herd(tmp_path / "cows", IMAGES, real=REAL, epochs=EPOCHS, patience_s=PATIENCE_S)
    with receiving() as told, Poller(herd.prefect_health) as prefect:
        hook = {"url": told.url, "events": ["promoted", "rejected", "failed"]}
        gate = {"retrain.gate.margin_ap": MARGIN, "retrain.gate.margin_close": MARGIN}
        herd.set(**gate, **{"retrain.notify.webhooks": [hook]})
        with herd.scheduled("--cron", "* * * * * */20", "--timezone", "UTC") as log:
            first = herd.wait(lambda outcome: outcome.kind == "promoted", "the first champion")
            assert (first.version, first.champion) == ("1", "1")

            quiet = herd.wait(lambda outcome: outcome.kind == "skipped", "a run that has nothing to do")
            assert "nothing that a training learns from changed since v1" in quiet.reason

            image = next(path for path in sorted((herd.root / "data/raw").rglob("*.*")) if path.suffix != ".json")
            shutil.copy(herd.root / "exports/model.onnx", tmp_path / "served.onnx")
            with (
                serving(tmp_path, tmp_path / "served.onnx") as served,
                Poller(lambda: upload(served.url, image)) as model,
            ):
                good = _after(herd, lambda: herd.annotate(NEW), "promoted")
                assert (good.version, good.champion) == ("2", "2")
                assert {row.verdict for row in good.rows} == {"passed"}

                bad = _after(herd, lambda: herd.exchange(1 / 3), "rejected")
                assert (bad.version, bad.champion) == ("3", "2")
                assert {"failed", "veto"} & {row.verdict for row in bad.rows}
                left = herd.wait(lambda outcome: outcome.kind == "skipped", "the same labels to be left alone")
                assert "v3 was trained on what is here and was rejected" in left.reason

                assert "v2 -> v1" in herd.keypipe("rollback", "--why", "misses calves").replace("→", "->")
            assert model.answers > 0
            assert model.failures == []
            assert prefect.answers > 0
            assert prefect.failures == [], log.read_text()
    history = herd.keypipe("models", "--history")
    assert "misses" in history
    assert read_events(told.posts) == [("promoted", "1"), ("promoted", "2"), ("rejected", "3")]


def _after(herd: Herd, change: Any, kind: str) -> Any:
    """Change something, and wait for what becomes of it."""
    before = herd.outcome()
    change()
    return herd.wait(
        lambda outcome: outcome != before and outcome.kind not in {"skipped", before.kind if before else ""}, kind
    )
