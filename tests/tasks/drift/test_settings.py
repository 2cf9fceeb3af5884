"""The section drift of params.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from keypipe.errors import ConfigError
from tasks.drift.settings import LOG, DriftParams, read_drift, read_log_settings


def write(root: Path, text: str) -> Path:
    (root / "params.yaml").write_text(text)
    return root


def test_nothing_is_logged_unless_it_is_asked_for(tmp_path: Path) -> None:
    root = write(tmp_path, "seed: 1\n")
    assert read_drift(root) == DriftParams()
    assert read_log_settings(root) is None
    settings = read_log_settings(root, wanted=True)
    assert settings is not None
    assert (settings.folder, settings.picture_mb) == (root / LOG, 0)


def test_the_command_line_has_the_last_word(tmp_path: Path) -> None:
    root = write(tmp_path, "drift: {log: true, log_share: 0.5, log_mb: 8.0, log_picture_mb: 2.0, log_views: true}\n")
    settings = read_log_settings(root)
    assert settings is not None
    assert (settings.share, settings.mb, settings.picture_mb, settings.views) == (0.5, 8.0, 2.0, True)
    assert read_log_settings(root, wanted=False) is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("log_share: 0", "drift.log_share"),
        ("splits: [train]", "drift.splits"),
        ("splits: []", "drift.splits"),
        ("alpha: 1.0", "drift.alpha"),
        ("widow: 7", "drift.widow: unknown parameter"),
    ],
)
def test_wrong_values_are_refused_with_their_line(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        read_drift(write(tmp_path, f"drift:\n  {line}\n"))
    assert "params.yaml:2" in str(refused.value)
