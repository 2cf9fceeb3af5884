"""A server that follows an alias on a real MLflow server, as a process of its own that is asked over HTTP."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import onnx as onnx_format
import pytest

from keypipe.serving.following.cache import Cache
from keypipe.serving.following.source import EXAMPLE, NETWORK, ModelRef, Version
from keypipe.serving.following.webhook import sign
from tests.mlflow_server import MlflowServer
from tests.model_versions import CALVES, Versions, network, photo, score_of
from tests.patience import PATIENCE
from tests.served import Served, command, surroundings
from tests.served import serving as served

PHOTO = photo()


@contextmanager
def following(versions: Versions, folder: Path, *arguments: str | Path, poll: str = "0.1") -> Iterator[Served]:
    url = os.environ["MLFLOW_TRACKING_URI"]
    with served(folder, versions.ref, "--tracking-uri", url, "--poll", poll, "--conf", "0.1", *arguments) as server:
        yield server


def ask(server: Served) -> httpx.Response:
    answer = httpx.post(f"{server.url}/predict", content=PHOTO, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return answer


def health(server: Served) -> Any:
    answer = httpx.get(f"{server.url}/healthz", timeout=PATIENCE)
    assert answer.status_code == 200
    return answer.json()


def wait_for(server: Served, what: Callable[[Any], Any]) -> Any:
    """Wait until the server's health is as it should be, and return it."""
    for _ in range(1200):
        if what(said := health(server)):
            return said
        time.sleep(0.05)
    raise AssertionError(said)


def counts(server: Served) -> dict[str, float]:
    lines = [line.rsplit(" ", 1) for line in httpx.get(f"{server.url}/metrics").text.splitlines() if line[0] != "#"]
    return {name: float(value) for name, value in lines}


def test_it_serves_the_champion_and_follows_it(versions: Versions, tmp_path: Path) -> None:
    first, second = versions.add_seeing(0.9), versions.add_seeing(0.8)
    versions.point("champion", first)
    with following(versions, tmp_path) as server:
        answer = ask(server)
        assert score_of(answer) == 0.9
        assert answer.headers["keypipe-model"] == answer.json()["model"]["path"] == versions.uri("1")
        card = httpx.get(f"{server.url}/model").json()
        assert card["registered"] == {"name": versions.name, "version": "1", "alias": "champion"}
        assert versions.uri("1") in httpx.get(server.url).text
        before = health(server)
        assert (before["status"], before["model"]) == ("ok", versions.uri("1"))
        assert before["registry"]["ref"] == versions.ref

        versions.point("champion", second)
        said = wait_for(server, lambda said: said["model"] == versions.uri("2"))
        assert said["status"] == "ok"
        assert said["registry"]["switches"] == 1
        answer = ask(server)
        assert score_of(answer) == 0.8
        assert answer.headers["keypipe-model"] == versions.uri("2")
        assert answer.json()["model"]["sha256"] != card["model"]["sha256"]
        assert versions.uri("2") in httpx.get(server.url).text
        refused = httpx.post(f"{server.url}/predict", content=b"hello")
        assert (refused.status_code, refused.headers["keypipe-model"]) == (422, versions.uri("2"))
        found = counts(server)
        sha256 = answer.json()["model"]["sha256"]
        assert found[f'keypipe_model_info{{alias="champion",model="{versions.uri("2")}",sha256="{sha256}"}}'] == 1
        assert found["keypipe_model_switches_total"] == 1
        assert found["keypipe_registry_up"] == 1
        assert found["keypipe_model_behind"] == 0
        assert found[f'keypipe_images_total{{model="{versions.uri("1")}"}}'] == 1

        versions.point("champion", first)  # a rollback
        wait_for(server, lambda said: said["model"] == versions.uri("1"))
        server.process.terminate()
        output, errors = server.process.communicate(timeout=PATIENCE)
    assert (
        f"{versions.ref} is {versions.uri('2')} now, which answers from here on (before: {versions.uri('1')})" in output
    )
    assert errors == ""
    assert server.process.returncode == 0


def test_a_version_that_fails_leaves_the_old_one_in_use(versions: Versions, tmp_path: Path) -> None:
    good = versions.add_seeing(0.9)
    versions.point("champion", good)
    sound = network(tmp_path / "sound.onnx", 0.8)
    nan = onnx_format.load(sound)
    for constant in nan.graph.initializer:
        if constant.name == "constant":
            constant.raw_data = b"\xff" * len(constant.raw_data)
    onnx_format.save(nan, tmp_path / "nan.onnx")
    boxes = onnx_format.load(sound)
    next(entry for entry in boxes.metadata_props if entry.key == "task").value = "detect"
    onnx_format.save(boxes, tmp_path / "boxes.onnx")
    cases = [
        (versions.add(sound, sha256="0" * 64), "and was 000000000000… when it was registered"),
        (versions.add(sound, files={NETWORK: b"hello"}), "not an ONNX model that onnxruntime can run"),
        (versions.add(sound, files={NETWORK: sound.read_bytes()[:-200]}), "not an ONNX model that onnxruntime can run"),
        (versions.add(tmp_path / "nan.onnx"), "what it says of its input example is not all numbers"),
        (versions.add(tmp_path / "boxes.onnx"), "not a pose model: its task is 'detect'"),
        (versions.add(sound, files={EXAMPLE: b"no table"}), "its input example cannot be read"),
    ]
    with following(versions, tmp_path) as server:
        for failures, (number, why) in enumerate(cases, start=1):
            versions.point("champion", number)
            uri = versions.uri(number)
            said = wait_for(server, lambda said, uri=uri: said["registry"]["problem"].startswith(uri))
            assert said["status"] == "behind"
            assert why in said["registry"]["problem"]
            assert "/tmp" not in said["registry"]["problem"]
            assert said["registry"]["failures"] >= failures
            assert (said["model"], said["registry"]["wanted"]) == (versions.uri("1"), versions.uri(number))
            assert score_of(ask(server)) == 0.9
            found = counts(server)
            assert found["keypipe_model_behind"] == 1
            assert found["keypipe_model_switch_failures_total"] >= failures
        versions.point("champion", good)
        said = wait_for(server, lambda said: said["status"] == "ok")
        assert (said["model"], said["registry"]["problem"], said["registry"]["switches"]) == (versions.uri("1"), "", 0)


def test_another_schema_is_put_into_use_and_told(versions: Versions, tmp_path: Path) -> None:
    versions.point("champion", versions.add_seeing(0.9))
    other = versions.add_seeing(0.7, CALVES)
    with following(versions, tmp_path) as server:
        versions.point("champion", other)
        said = wait_for(server, lambda said: said["registry"]["note"])
        assert said["status"] == "ok"
        assert said["registry"]["note"].startswith(f"another schema than {versions.uri('1')}: class cow")
        (found,) = ask(server).json()["predictions"]
        assert (found["class_name"], len(found["keypoints"])) == ("calf", 3)
        assert list(httpx.get(f"{server.url}/model").json()["schema"]["classes"]) == ["calf"]
        server.process.terminate()
        assert "has another schema than" in server.process.communicate(timeout=PATIENCE)[0]


def test_an_alias_that_is_gone_changes_nothing_but_what_is_said(versions: Versions, tmp_path: Path) -> None:
    versions.point("champion", versions.add_seeing(0.9))
    second = versions.add_seeing(0.8)
    with following(versions, tmp_path) as server:
        versions.take_away("champion")
        said = wait_for(server, lambda said: said["status"] == "behind")
        assert said["registry"]["problem"] == "Registered model alias champion not found."
        assert said["registry"]["wanted"] == ""
        assert score_of(ask(server)) == 0.9
        versions.point("champion", second)
        assert wait_for(server, lambda said: said["status"] == "ok")["model"] == versions.uri("2")


def test_a_registry_that_goes_away_leaves_the_model_in_use(
    versions: Versions, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    versions.point("champion", versions.add_seeing(0.9))
    second = versions.add_seeing(0.8)
    with following(versions, tmp_path) as server:
        mlflow_server.stop()
        try:
            refused = "does not answer ([Errno 111] Connection refused)"
            said = wait_for(server, lambda said: said["registry"]["away"] == refused)
            assert said["status"] == "behind"
            assert said["registry"]["answered"] < time.time()
            assert score_of(ask(server)) == 0.9
            assert counts(server)["keypipe_registry_up"] == 0
        finally:
            mlflow_server.start()
        assert wait_for(server, lambda said: said["status"] == "ok")["registry"]["away"] == ""
        versions.point("champion", second)
        assert wait_for(server, lambda said: said["model"] == versions.uri("2"))["status"] == "ok"
        server.process.terminate()
        output = server.process.communicate(timeout=PATIENCE)[0]
    assert output.count("the registry does not answer (") == 1
    assert f"); {versions.uri('1')} goes on" in output
    assert "the registry answers again" in output


def test_a_frozen_registry_holds_up_no_answer_and_no_end(
    versions: Versions, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    versions.point("champion", versions.add_seeing(0.9))
    with following(versions, tmp_path) as server:
        mlflow_server.freeze()
        try:
            assert score_of(ask(server)) == 0.9
            said = wait_for(server, lambda said: said["registry"]["away"])
            assert "timed out" in said["registry"]["away"]
            server.process.terminate()
            assert server.process.wait(PATIENCE) == 0
        finally:
            mlflow_server.thaw()


def test_no_request_is_lost_over_switches_under_load(versions: Versions, tmp_path: Path) -> None:
    numbers = [versions.add_seeing(0.9), versions.add_seeing(0.8)]
    scores = {versions.uri(number): score for number, score in zip(numbers, (0.9, 0.8), strict=True)}
    versions.point("champion", numbers[0])
    stop = threading.Event()
    seen: list[tuple[int, str, float]] = []
    failed: list[Exception] = []

    def load() -> None:
        with httpx.Client(timeout=PATIENCE) as client:
            while not stop.is_set():
                try:
                    answer = client.post(f"{server.url}/predict", content=PHOTO)
                    seen.append((answer.status_code, answer.headers["keypipe-model"], score_of(answer)))
                except Exception as error:  # noqa: BLE001 - whatever it is, a request was lost
                    failed.append(error)

    with following(versions, tmp_path, "--parallel", "2") as server:
        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for number in (numbers * 3)[1:]:
                versions.point("champion", number)
                uri = versions.uri(number)
                wait_for(server, lambda said, uri=uri: said["model"] == uri)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert health(server)["registry"]["switches"] == 5
    assert not failed
    assert {status for status, _, _ in seen} == {200}
    assert {model for _, model, _ in seen} == set(scores)
    assert all(score == scores[model] for _, model, score in seen)  # each answer names the model that it is from


def test_a_version_by_its_number_stays(versions: Versions, tmp_path: Path) -> None:
    versions.add_seeing(0.9)
    versions.add_seeing(0.8)
    url = os.environ["MLFLOW_TRACKING_URI"]
    with served(tmp_path, versions.uri("2"), "--tracking-uri", url) as server:
        assert score_of(ask(server)) == 0.8
        assert health(server)["model"] == versions.uri("2")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("models:/nobody@champion", "Registered Model with name=nobody not found"),
        ("models:/nobody", "expected models:/NAME@ALIAS or models:/NAME/VERSION, such as models:/cows@champion"),
        ("models:/@champion", "expected models:/NAME@ALIAS"),
        ("models:/cows/champion", "expected models:/NAME@ALIAS"),
    ],
)
def test_what_is_not_there_ends_it_at_once(mlflow_server: MlflowServer, tmp_path: Path, model: str, said: str) -> None:
    assert said in fails(tmp_path, model, "--tracking-uri", mlflow_server.url)


def fails(folder: Path, *arguments: str | Path, **variables: str) -> str:
    done = subprocess.run(
        command(*arguments), cwd=folder, env=surroundings() | variables, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_a_champion_that_fails_ends_it_at_once(versions: Versions, tmp_path: Path) -> None:
    url = os.environ["MLFLOW_TRACKING_URI"]
    versions.add_seeing(0.9)
    assert "Registered model alias champion not found" in fails(tmp_path, versions.ref, "--tracking-uri", url)
    versions.point("champion", versions.add(network(tmp_path / "m.onnx", 0.8), sha256="0" * 64))
    assert "when it was registered" in fails(tmp_path, versions.ref, MLFLOW_TRACKING_URI=url)
    versions._registry._client.delete_model_version_tag(versions.name, "2", "keypipe.onnx_sha256")
    assert "has no tag keypipe.onnx_sha256" in fails(tmp_path, versions.ref, "--tracking-uri", url)


# ------------------------------------------------------------------ started again while the registry is away


def test_it_starts_again_while_the_registry_is_away(
    versions: Versions, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    versions.point("champion", versions.add_seeing(0.9))
    second = versions.add_seeing(0.8)
    cache = tmp_path / "cache"
    with following(versions, tmp_path, "--cache", cache) as server:
        assert health(server)["registry"]["from_cache"] is False
        versions.point("champion", second)
        wait_for(server, lambda said: said["model"] == versions.uri("2"))
    mlflow_server.stop()
    try:
        with following(versions, tmp_path, "--cache", cache) as server:
            said = health(server)
            assert (said["status"], said["model"]) == ("behind", versions.uri("2"))
            assert said["registry"]["from_cache"] is True
            assert "does not answer" in said["registry"]["away"]
            assert 0 < said["registry"]["answered"] < time.time()
            assert score_of(ask(server)) == 0.8
            assert counts(server)["keypipe_model_from_cache"] == 1
            mlflow_server.start()
            said = wait_for(server, lambda said: said["status"] == "ok")
            assert said["registry"]["from_cache"] is False
            assert counts(server)["keypipe_model_from_cache"] == 0
            server.process.terminate()
            output = server.process.communicate(timeout=PATIENCE)[0]
        assert "the registry answers again" in output
    finally:
        if mlflow_server._process is None:
            mlflow_server.start()
    assert (cache.stat().st_mode & 0o777) == 0o700, "it holds an image"


def test_it_starts_again_with_what_was_in_use_while_the_alias_leads_to_nothing_that_works(
    versions: Versions, tmp_path: Path
) -> None:
    """A machine that is started again in the night after a promotion that failed, or an alias that was taken away."""
    versions.point("champion", versions.add_seeing(0.9))
    cache = tmp_path / "cache"
    with following(versions, tmp_path, "--cache", cache):
        pass
    versions.point("champion", versions.add(network(tmp_path / "m.onnx", 0.8), sha256="0" * 64))
    with following(versions, tmp_path, "--cache", cache) as server:
        said = wait_for(server, lambda said: not said["registry"]["from_cache"])
        assert (said["status"], said["model"]) == ("behind", versions.uri("1"))
        assert (said["registry"]["wanted"], said["registry"]["away"]) == (versions.uri("2"), "")
        assert "when it was registered" in said["registry"]["problem"]
        assert score_of(ask(server)) == 0.9
        versions.point("champion", versions.add_seeing(0.7))
        assert wait_for(server, lambda said: said["status"] == "ok")["model"] == versions.uri("3")
    versions.take_away("champion")
    with following(versions, tmp_path, "--cache", cache) as server:
        said = health(server)
        assert (said["status"], said["model"], said["registry"]["wanted"]) == ("behind", versions.uri("3"), "")
        assert "alias champion not found" in said["registry"]["problem"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"needs the right to mount a small disk: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    return ballast


def test_a_disk_that_is_full_leaves_the_old_one_in_use_and_is_said(
    versions: Versions, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions.point("champion", versions.add_seeing(0.9))
    second, third = versions.add_seeing(0.8), versions.add_seeing(0.7)
    cache = small_disk / "cache"
    with monkeypatch.context() as patch:
        patch.setenv("TMPDIR", str(small_disk))
        with following(versions, tmp_path, "--cache", cache) as server:
            ballast = fill(small_disk)
            versions.point("champion", second)
            said = wait_for(server, lambda said: said["status"] == "behind")
            assert f"2 cannot be fetched to {small_disk} (No space left on device)" in said["registry"]["problem"]
            assert score_of(ask(server)) == 0.9
            ballast.unlink()
            assert wait_for(server, lambda said: said["status"] == "ok")["model"] == versions.uri("2")
    with following(versions, tmp_path, "--cache", cache) as server:
        fill(small_disk)
        versions.point("champion", third)
        wait_for(server, lambda said: said["model"] == versions.uri("3"))
        assert score_of(ask(server)) == 0.7
        server.process.terminate()
        output = server.process.communicate(timeout=PATIENCE)[0]
    assert "3 is not kept for a restart while the registry is away (No space left on device)" in output


def test_a_version_that_is_deleted_in_use_goes_on(versions: Versions, tmp_path: Path) -> None:
    versions.point("champion", versions.add_seeing(0.9))
    with following(versions, tmp_path, "--no-cache") as server:
        versions._registry._client.delete_model_version(versions.name, "1")
        said = wait_for(server, lambda said: said["status"] == "behind")
        assert (said["model"], said["registry"]["wanted"]) == (versions.uri("1"), "")
        assert score_of(ask(server)) == 0.9


def test_a_cache_that_was_changed_is_not_served(
    versions: Versions, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    versions.point("champion", versions.add_seeing(0.9))
    cache, url = tmp_path / "cache", os.environ["MLFLOW_TRACKING_URI"]
    with following(versions, tmp_path, "--cache", cache):
        pass
    (kept,) = cache.glob("*/model.onnx")
    network(kept, 0.8)  # another network under the hash of the first
    with following(versions, tmp_path, "--cache", cache) as server:
        assert score_of(ask(server)) == 0.9, "fetched anew"
    network(kept, 0.8)
    mlflow_server.stop()
    try:
        assert "does not answer" in fails(tmp_path, versions.ref, "--tracking-uri", url, "--cache", cache)
        assert "does not answer" in fails(tmp_path, versions.ref, "--tracking-uri", url, "--no-cache")
    finally:
        mlflow_server.start()


def test_what_is_kept_does_not_pile_up(tmp_path: Path) -> None:
    said: list[str] = []
    kept = Cache(tmp_path / "cache", "http://127.0.0.1:5000", said.append)
    ref = ModelRef("cows", "champion")
    for number in range(4):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(bytes([number]))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        kept.keep(ref, Version("cows", str(number), sha256), path, b"image")
        for folder in (tmp_path / "cache").glob("*/"):
            os.utime(folder, (0, 0))
    assert len(list((tmp_path / "cache").glob("*/"))) <= 2
    last = kept.last(ref)
    assert last is not None
    assert last.version.number == "3"
    assert kept.find(last.version) is not None
    assert Cache(tmp_path / "cache", "http://127.0.0.1:1", said.append).last(ref) is None, "another registry's"
    (tmp_path / "file").write_text("")
    Cache(tmp_path / "file", "", said.append).keep(ref, last.version, path, b"")
    assert len(said) == 1, "a cache that cannot be written fails nothing"


# ------------------------------------------------------------------------------------------- webhooks


def post(server: Served, body: bytes, secret: str = "s3cret", age_s: float = 0.0) -> httpx.Response:
    timestamp = str(int(time.time() - age_s))
    headers = {"X-MLflow-Delivery-Id": "1", "X-MLflow-Timestamp": timestamp}
    headers["X-MLflow-Signature"] = sign(secret, "1", timestamp, body)
    return httpx.post(f"{server.url}/webhooks/mlflow", content=body, headers=headers, timeout=60)


def test_mlflows_own_webhook_brings_the_look_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The server polls once an hour; MLflow tells it, with its guard against plain http and private addresses off."""
    from cryptography.fernet import Fernet
    from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent

    settings = {"MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true"}
    settings["MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"] = Fernet.generate_key().decode()
    settings["MLFLOW_WEBHOOK_CACHE_TTL"] = "0"  # else it remembers for a minute that there was none
    registry = MlflowServer(tmp_path_factory.mktemp("mlflow-with-webhooks"), **settings)
    registry.start()
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.url)
        monkeypatch.setenv("KEYPIPE_WEBHOOK_SECRET", "s3cret")
        versions = Versions(tmp_path)
        versions.point("champion", versions.add_seeing(0.9))
        second = versions.add_seeing(0.8)
        with following(versions, tmp_path, poll="3600") as server:
            alias = WebhookEvent(WebhookEntity.MODEL_VERSION_ALIAS, WebhookAction.CREATED)
            registry.client().create_webhook("serving", f"{server.url}/webhooks/mlflow", [alias], secret="s3cret")
            versions.point("champion", second)
            assert wait_for(server, lambda said: said["model"] == versions.uri("2"))["status"] == "ok"
    finally:
        registry.stop()


def test_who_does_not_know_the_secret_is_refused(
    versions: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions.point("champion", versions.add_seeing(0.9))
    ours = json.dumps({"data": {"name": versions.name, "alias": "champion"}}).encode()
    others = json.dumps({"data": {"name": versions.name, "alias": "challenger"}}).encode()
    with following(versions, tmp_path) as server:
        assert post(server, ours).status_code == 404, "there are none without a secret"
    monkeypatch.setenv("KEYPIPE_SERVE_TOKEN", "t0ken")
    (tmp_path / "secret").write_text("s3cret\n")
    with following(versions, tmp_path, "--webhook-secret-file", tmp_path / "secret", poll="3600") as server:
        assert (post(server, ours).status_code, post(server, ours).json()) == (202, {"looks": True})
        assert post(server, others).json() == {"looks": False}
        assert post(server, ours, secret="guessed").status_code == 401
        assert "too old" in post(server, ours, age_s=1000).json()["error"]
        assert post(server, b"x" * 100_000).status_code == 413
        unsigned = httpx.post(f"{server.url}/webhooks/mlflow", content=ours)
        assert unsigned.status_code == 401
        assert httpx.get(f"{server.url}/model").status_code == 401, "the token is asked for elsewhere"
