"""The section ``retrain``."""

from __future__ import annotations

from pathlib import Path

import pytest

from keypipe.errors import ConfigError
from tasks.retraining.settings import read_notify, read_settings

NOTIFY = "  notify:\n    webhooks:\n      - url: https://example.org/hook\n"


def test_who_is_told_is_read_beside_faults_of_other_keys(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"retrain:\n  gate: {{margin_ap: 5}}\n{NOTIFY}")
    with pytest.raises(ConfigError, match=r"params.yaml:2: retrain\.gate: margin_ap"):
        read_settings(tmp_path)
    assert [hook.url for hook in read_notify(tmp_path).webhooks] == ["https://example.org/hook"]


@pytest.mark.parametrize("text", ["", "retrain:\n", "retrain: {pull: false}\n"])
def test_nobody_is_named_by_default(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    assert read_notify(tmp_path).webhooks == ()


@pytest.mark.parametrize("text", ["retrain: 5\n", "retrain: {notify: 5}\n"])
def test_a_section_that_is_none_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match="expected keys and values"):
        read_notify(tmp_path)
