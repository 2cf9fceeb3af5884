"""The log's options on the command lines of the library alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from keypipe.drift.log import LogSettings
from keypipe.drift.options import add_log_options, to_log_settings


def parse(*arguments: str) -> LogSettings | None:
    parser = argparse.ArgumentParser()
    add_log_options(parser)
    return to_log_settings(parser.parse_args(arguments))


def test_options_become_settings() -> None:
    assert parse("--log-mb", "5") is None
    assert parse("--log", "here") == LogSettings(Path("here"))
    given = ("--log-share", "0.5", "--log-mb", "9", "--log-days", "3", "--log-picture-mb", "1", "--log-views")
    assert parse("--log", "here", *given) == LogSettings(
        Path("here"), share=0.5, mb=9, days=3, picture_mb=1, views=True
    )
