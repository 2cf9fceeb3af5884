"""A challenger beside the champion, on a real MLflow server, both served by a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from keypipe.serving.following.source import NETWORK
from tests.model_versions import CALVES, Versions, network, photo, score_of
from tests.patience import PATIENCE
from tests.served import Served
from tests.served import serving as served

PHOTO = photo()


@contextmanager
def shadowed(versions: Versions, folder: Path, *arguments: str, share: str = "1") -> Iterator[Served]:
    where = ("--tracking-uri", os.environ["MLFLOW_TRACKING_URI"], "--poll", "0.1", "--conf", "0.1")
    with served(folder, versions.ref, *where, "--shadow", "challenger", "--shadow-share", share, *arguments) as server:
        yield server


def ask(server: Served, content: bytes = PHOTO) -> httpx.Response:
    return httpx.post(f"{server.url}/predict", content=content, timeout=PATIENCE)


def wait_for(server: Served, what: Callable[[Any], Any]) -> Any:
    """Wait until what the server says of its shadow is as it should be, and return it."""
    for _ in range(1200):
        if what(said := httpx.get(f"{server.url}/healthz", timeout=PATIENCE).json()["shadow"]):
            return said
        time.sleep(0.05)
    raise AssertionError(said)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_sample_goes_to_the_challenger_and_the_differences_are_written(versions: Versions, tmp_path: Path) -> None:
    versions.point("champion", versions.add_seeing(0.9))
    challenger = versions.add_seeing(0.7, shift_px=4.0)
    with shadowed(versions, tmp_path) as server:
        idle = wait_for(server, lambda said: said["problem"])
        assert idle["problem"] == "Registered model alias challenger not found."
        assert score_of(ask(server)) == 0.9
        versions.point("challenger", challenger)
        wait_for(server, lambda said: said["version"] == versions.uri("2"))
        for _ in range(3):
            assert score_of(ask(server)) == 0.9
            time.sleep(0.3)
        assert ask(server, b"no image").status_code == 422
        wait_for(server, lambda said: said["compared"] == 3)
        text = httpx.get(f"{server.url}/metrics").text
        for line in (
            f'keypipe_shadow_up{{model="{versions.uri("2")}"}} 1.0',
            'keypipe_shadow_images_total{outcome="compared"} 3.0',
            'keypipe_shadow_objects_total{found_by="both"} 3.0',
            'keypipe_shadow_keypoint_diagonals_bucket{le="0.05",of="median"} 0.0',
            'keypipe_shadow_keypoint_diagonals_bucket{le="+Inf",of="median"} 3.0',
            'keypipe_shadow_keypoint_diagonals_count{of="largest"} 3.0',
        ):
            assert line in text, line
    found = lines(tmp_path / "predictions/shadow.jsonl")
    assert len(found) == 3
    assert found[0]["image"] == hashlib.sha256(PHOTO).hexdigest()
    assert (found[0]["champion"], found[0]["challenger"]) == (versions.uri("1"), versions.uri("2"))
    assert found[0]["score"] == pytest.approx(0.2)
    assert found[0]["max_px"] == pytest.approx(4)
    assert found[0]["max_diagonals"] == pytest.approx(4 / 40, abs=1e-3)  # a box of 24 x 32 px
    assert found[0]["worst"].startswith("cow ")
    assert (found[0]["matched"], found[0]["unmatched"], found[0]["keypoints"]) == (1, 0, 2)


def test_nothing_that_the_challenger_does_reaches_the_client(versions: Versions, tmp_path: Path) -> None:
    versions.point("champion", versions.add_seeing(0.9))
    sound = network(tmp_path / "sound.onnx", 0.8)
    versions.point("challenger", versions.add(sound, files={NETWORK: b"hello"}))
    with shadowed(versions, tmp_path) as server:
        said = wait_for(server, lambda said: said["problem"])
        assert said["problem"].startswith(f"{versions.uri('2')}: not an ONNX model")
        assert score_of(ask(server)) == 0.9
        versions.point("challenger", versions.add(sound, sha256="0" * 64))
        said = wait_for(server, lambda said: said["problem"].startswith(versions.uri("3")))
        assert said["problem"].endswith("when it was registered")
        versions.point("challenger", versions.add(sound))
        wait_for(server, lambda said: said["version"] == versions.uri("4"))

        children = psutil.Process(server.process.pid).children()
        (child,) = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        assert child.nice() == 19
        child.send_signal(signal.SIGSTOP)  # it takes for ever
        answers = [ask(server) for _ in range(12)]
        assert {score_of(answer) for answer in answers} == {0.9}
        assert wait_for(server, lambda said: said["dropped"])["dropped"] >= 6
        child.kill()  # and then it dies, as it would if onnxruntime or the system ended it
        said = wait_for(server, lambda said: "its process ended with -9" in said["problem"])
        assert score_of(ask(server)) == 0.9
        wait_for(server, lambda said: said["version"] == versions.uri("4"))  # and another one is started
        assert httpx.get(f"{server.url}/healthz").json()["status"] == "ok"
        server.process.terminate()
        assert server.process.wait(PATIENCE) == 0
    assert not psutil.pid_exists(child.pid)


def test_another_schema_and_a_promotion(versions: Versions, tmp_path: Path) -> None:
    versions.point("champion", versions.add_seeing(0.9))
    versions.point("challenger", versions.add_seeing(0.8, CALVES))
    with shadowed(versions, tmp_path) as server:
        wait_for(server, lambda said: said["version"] == versions.uri("2"))
        ask(server)
        wait_for(server, lambda said: said["compared"] == 1)
        (line,) = lines(tmp_path / "predictions/shadow.jsonl")
        assert (line["champion_objects"], line["challenger_objects"], line["matched"], line["unmatched"]) == (
            1,
            1,
            0,
            2,
        )
        versions.point("champion", "2")
        said = wait_for(server, lambda said: said["version"] == "")
        assert said["problem"] == f"{versions.uri('2')} is the model in use"


def test_what_it_writes_is_bounded_and_a_disk_that_is_full_stops_no_comparison(
    versions: Versions, tmp_path: Path
) -> None:
    versions.point("champion", versions.add_seeing(0.9))
    versions.point("challenger", versions.add_seeing(0.8))
    (tmp_path / "log").mkdir()
    arguments = ("--shadow-log", "log/shadow.jsonl", "--shadow-mb", "0.002")
    with shadowed(versions, tmp_path, *arguments) as server:
        wait_for(server, lambda said: said["version"])
        for number in range(1, 9):
            ask(server)
            wait_for(server, lambda said, number=number: said["compared"] == number)
        assert sum(path.stat().st_size for path in (tmp_path / "log").iterdir()) <= 2000
        for path in (tmp_path / "log").iterdir():
            path.unlink()
        (tmp_path / "log").rmdir()
        ask(server)
        said = wait_for(server, lambda said: said["compared"] == 9)
        said = wait_for(server, lambda said: said["unwritten"])
        assert (said["unwritten"], said["problem"]) == (1, "")
        assert said["version"]
        server.process.terminate()
        output = server.process.communicate(timeout=PATIENCE)[0]
    assert (
        f"the differences from models:/{versions.name}@challenger cannot be written (No such file or directory)"
        in output
    )


def test_a_share_is_a_share(versions: Versions, tmp_path: Path) -> None:
    versions.point("champion", versions.add_seeing(0.9))
    versions.point("challenger", versions.add_seeing(0.8))
    with shadowed(versions, tmp_path, share="0.2") as server:
        wait_for(server, lambda said: said["version"])
        for _ in range(60):
            ask(server)
        said = wait_for(server, lambda said: said["compared"] + said["dropped"])
        assert 0 < said["compared"] + said["dropped"] < 40


def test_a_file_has_no_challenger(tmp_path: Path) -> None:
    from tests.keypipe.serving.following.test_follower import fails

    onnx = network(tmp_path / "model.onnx", 0.9)
    said = fails(tmp_path, onnx, "--shadow", "challenger")
    assert "--shadow compares registered versions, such as models:/NAME@champion" in said
    assert "shadow-share should be above 0 and at most 1, got 1.5" in fails(tmp_path, onnx, "--shadow-share", "1.5")
