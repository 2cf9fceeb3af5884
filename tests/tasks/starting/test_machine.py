from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from tasks.starting.machine import find_machine, find_weights
from tasks.workspace.params import Local


class Publisher(http.server.BaseHTTPRequestHandler):
    """Answers for one file, and takes down how it was asked."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        Publisher.asked.append(self.command)
        self.send_response(200 if self.path.endswith("yolov8n-pose.pt") else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def publisher() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Publisher)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_weights_can_be_had_where_their_publisher_answers_and_nothing_is_fetched(
    tmp_path: Path, publisher: str
) -> None:
    Publisher.asked.clear()
    assert find_weights(tmp_path, f"{publisher}/yolov8n-pose.pt").published
    assert Publisher.asked == ["HEAD"]
    assert list(tmp_path.iterdir()) == []
    gone = find_weights(tmp_path, f"{publisher}/gone.pt")
    assert not gone.published
    assert gone.why_not == f"yolov8n-pose.pt is not here and {publisher.removeprefix('http://')} cannot be reached"


def test_weights_that_are_here_need_no_network(tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:9/yolov8n-pose.pt"
    assert not find_weights(tmp_path, nobody).published
    (tmp_path / ".keypipe/ultralytics").mkdir(parents=True)
    (tmp_path / ".keypipe/ultralytics/yolov8n-pose.pt").write_bytes(b"weights")
    assert find_weights(tmp_path, nobody).published


def test_the_machine_has_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert find_machine(Local(device="cpu")).kind == "cpu"
    assert find_machine(Local(device="cpu")).memory_bytes > 1e8
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 1000\necho 24000\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    first, second, none = (find_machine(Local(device=device)) for device in (None, 1, 7))
    assert (first.kind, first.memory_bytes) == ("gpu", 1000 * 2**20)
    assert (second.kind, second.memory_bytes) == ("gpu", 24000 * 2**20)
    assert none.kind == "cpu"
    driver.write_text("#!/bin/sh\necho no devices were found\nexit 9\n")
    assert find_machine(Local()).kind == "cpu"
