"""The options of the log on the command lines of the library alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from keypipe.drift.log import LogSettings


def add_log_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--log`` and what goes with it."""
    default = LogSettings(Path())
    group = parser.add_argument_group("prediction log", "docs/drift.md says what is logged, and who may see it")
    group.add_argument("--log", type=Path, metavar="FOLDER", help="log predictions there (needs keypipe[log])")
    group.add_argument(
        "--log-share", type=float, default=default.share, help="of the images that is logged (%(default)s)"
    )
    group.add_argument(
        "--log-mb", type=float, default=default.mb, help="what that takes on the disk at most (%(default)s)"
    )
    group.add_argument("--log-days", type=float, default=default.days, help="how long it is kept (%(default)s)")
    group.add_argument(
        "--log-picture-mb",
        type=float,
        default=default.picture_mb,
        help="what small pictures take at most; 0: none are kept (%(default)s)",
    )
    group.add_argument(
        "--log-views", action="store_true", help="look at each image mirrored and smaller as well: three times the work"
    )


def to_log_settings(options: argparse.Namespace) -> LogSettings | None:
    """Return where and how much is logged; None without ``--log``.

    Raises:
        ConfigError: an option is out of range.
    """
    if options.log is None:
        return None
    return LogSettings(
        options.log,
        share=options.log_share,
        mb=options.log_mb,
        days=options.log_days,
        picture_mb=options.log_picture_mb,
        views=options.log_views,
    )
