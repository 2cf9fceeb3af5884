"""A server that logs what it answers: real requests, groups, a disk that fails, and what it says of itself."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import httpx
import pytest

from keypipe.drift.rows import Row
from keypipe.drift.segments import PICTURES, read_segment
from tests.model_versions import network, photo
from tests.served import serving


def rows_of(folder: Path) -> list[Row]:
    return [row for path in sorted(folder.glob("[!.]*.parquet")) for row in read_segment(path)]


def wait_for(url: str, logged: int) -> dict[str, object]:
    """Wait until so many images are logged; the test's own time limit is the end of patience."""
    while True:
        state = httpx.get(f"{url}/healthz").json()["log"]
        if state["logged"] + state["failed"] >= logged:
            return dict(state)
        time.sleep(0.05)


def test_answers_are_logged_with_their_group_and_written_when_the_server_ends(tmp_path: Path) -> None:
    onnx = network(tmp_path / "model.onnx", 0.8)
    log = tmp_path / "log"
    with serving(tmp_path, onnx, "--log", log, "--log-picture-mb", "5", "--log-views") as server:
        for index in range(3):
            answer = httpx.post(f"{server.url}/predict", params={"group": f"cam {index % 2}"}, content=photo())
            assert answer.status_code == 200, answer.text
        assert httpx.post(f"{server.url}/predict", content=b"no image").status_code == 422
        assert wait_for(server.url, 3) == {"logged": 3, "dropped": 0, "failed": 0, "problem": ""}
        metrics = httpx.get(f"{server.url}/metrics").text
        assert 'keypipe_log_images_total{outcome="logged"} 3.0' in metrics
        assert "keypipe_log_up 1.0" in metrics
    rows = rows_of(log)
    assert sorted(row.group for row in rows) == ["cam 0", "cam 0", "cam 1"]
    assert {row.source for row in rows} == {"serve"}
    assert all(row.image.startswith("sha256:") and row.views and row.objects for row in rows)
    assert len(list((log / PICTURES).iterdir())) == 3


def test_a_log_that_cannot_be_written_is_told_and_the_server_answers_on(tmp_path: Path) -> None:
    onnx = network(tmp_path / "model.onnx", 0.8)
    log = tmp_path / "log"
    with serving(tmp_path, onnx, "--log", log, "--log-picture-mb", "5") as server:
        shutil.rmtree(log)
        log.write_text("a file where the folder was")
        httpx.post(f"{server.url}/predict", content=photo())
        while not httpx.get(f"{server.url}/healthz").json()["log"]["problem"]:
            time.sleep(0.05)
        assert httpx.post(f"{server.url}/predict", content=photo()).status_code == 200
        assert "keypipe_log_up 0.0" in httpx.get(f"{server.url}/metrics").text


@pytest.mark.parametrize("option", [("--log-share", "0"), ("--log-mb", "-1")])
def test_wrong_options_are_refused(tmp_path: Path, option: tuple[str, str]) -> None:
    import subprocess

    from tests.served import command, surroundings

    onnx = network(tmp_path / "model.onnx", 0.8)
    done = subprocess.run(
        [*command(onnx, "--log", tmp_path / "log"), *option],
        cwd=tmp_path,
        env=surroundings(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"{option[0][2:]} should be above 0" in done.stderr
