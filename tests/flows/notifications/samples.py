"""Notices to send."""

from __future__ import annotations

from typing import Any

from flows.notifications.notice import Notice
from flows.outcome import RuleRow

ROWS = (
    RuleRow(rule="oks_AP", champion=0.7412, challenger=0.7536, interval=(-0.0061, 0.0309), verdict="passed"),
    RuleRow(rule="close", champion=0.9021, challenger=0.9103, interval=(-0.0004, 0.0170), verdict="passed"),
    RuleRow(
        rule="oks_AP against the best", champion=0.7498, challenger=0.7536, interval=(-0.011, 0.0187), verdict="passed"
    ),
    RuleRow(rule="left_front_hoof", champion=0.871, challenger=0.802, interval=(-0.094, -0.041), verdict="veto"),
    RuleRow(rule="latency", champion=25.0, challenger=14.2, verdict="passed"),
    RuleRow(rule="parity", verdict="passed"),
)


def sample(**changes: Any) -> Notice:
    values: dict[str, Any] = {
        "event": "promoted",
        "title": "v7 is in use",
        "reason": "Every rule is kept.",
        "workspace": "cows",
        "rows": ROWS,
        "model_version": "7",
        "champion_version": "7",
        "run_url": "http://127.0.0.1:4200/runs/flow-run/0198f1c2-6f5e-7b1a-9d53-0f4a3c2b1a00",
        "host": "barn",
        "at": "2026-11-30T03:12:44+00:00",
    }
    return Notice(**(values | changes))
