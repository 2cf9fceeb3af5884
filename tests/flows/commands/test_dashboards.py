"""``keypipe ui``."""

from __future__ import annotations

import signal
import urllib.request

import pytest

from tests.flows.toy import Toy, wait_until
from tests.patience import PATIENCE


@pytest.mark.slow
def test_both_dashboards_come_up_and_end_with_the_command(fresh: Toy) -> None:
    process = fresh.start("ui", own_server=True)
    assert process.stdout is not None
    pages: dict[str, str] = {}
    for line in process.stdout:
        if "http://127.0.0.1:" in line:
            name, page = line.split()
            pages[name] = page
        if "Ctrl-C" in line:
            break
    assert set(pages) == {"Prefect", "MLflow"}
    for page in pages.values():
        with urllib.request.urlopen(page, timeout=30) as reply:
            assert b"<html" in reply.read().lower()
    assert fresh.keypipe("status").count(pages["Prefect"]) == 1
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    wait_until(lambda: not fresh.processes(), f"{fresh.processes()} to be gone")
