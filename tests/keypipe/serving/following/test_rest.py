"""MLflow's registry by plain HTTP: a real server, and servers that answer as none should."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows.services.server import free_port
from keypipe.errors import ConfigError, ModelError, PoseError
from keypipe.serving.following import rest
from keypipe.serving.following.rest import MlflowRest, find_address
from keypipe.serving.following.source import (
    EXAMPLE,
    NETWORK,
    AwayError,
    ModelRef,
    NoModelError,
    NoVersionError,
    Version,
    parse_ref,
)
from tests.model_versions import Versions, network

CHAMPION = ModelRef("cows", alias="champion")
FOUND = (
    b'{"model_version": {"version": "3", "status": "READY", "tags": [{"key": "keypipe.onnx_sha256", "value": "AB"}]}}'
)


def test_it_finds_and_fetches_what_a_real_server_has(versions: Versions, tmp_path: Path) -> None:
    onnx = network(tmp_path / "model.onnx", 0.9)
    number = versions.add(onnx)
    versions.point("champion", number)
    registry = MlflowRest(os.environ["MLFLOW_TRACKING_URI"])
    version = registry.find(ModelRef(versions.name, alias="champion"))
    assert version == registry.find(ModelRef(versions.name, number="1"))
    assert version == Version(versions.name, "1", hashlib.sha256(onnx.read_bytes()).hexdigest())
    client = versions._registry._client
    assert client.get_model_version_download_uri(versions.name, number).startswith("mlflow-artifacts:/")  # by the proxy
    registry.download(version, NETWORK, tmp_path / "fetched.onnx")
    assert (tmp_path / "fetched.onnx").read_bytes() == onnx.read_bytes()
    registry.download(version, EXAMPLE, tmp_path / "example.json")
    assert (tmp_path / "example.json").read_text().startswith('{"columns": ["image"]')
    with pytest.raises((ModelError, AwayError), match=r"nothing\.onnx|fails"):
        registry.download(version, "artifacts/nothing.onnx", tmp_path / "none")


def test_it_fetches_what_is_not_behind_the_proxy(versions: Versions, tmp_path: Path) -> None:
    """Such as a bucket, or a folder of the server: the server reads it for us."""
    onnx = network(tmp_path / "model.onnx", 0.9)
    client = versions._registry._client
    experiment = client.create_experiment(f"elsewhere {versions.name}", (tmp_path / "elsewhere").as_uri())
    versions._run = client.create_run(experiment).info.run_id
    number = versions.add(onnx)
    assert client.get_model_version_download_uri(versions.name, number).startswith("file:/")
    registry = MlflowRest(os.environ["MLFLOW_TRACKING_URI"])
    registry.download(registry.find(ModelRef(versions.name, number=number)), NETWORK, tmp_path / "fetched.onnx")
    assert (tmp_path / "fetched.onnx").read_bytes() == onnx.read_bytes()


def test_what_is_not_there_is_told_apart(versions: Versions) -> None:
    registry = MlflowRest(os.environ["MLFLOW_TRACKING_URI"])
    with pytest.raises(NoModelError, match="name=nobody not found"):
        registry.find(ModelRef("nobody", alias="champion"))
    with pytest.raises(NoVersionError, match="alias champion not found") as raised:
        registry.find(ModelRef(versions.name, alias="champion"))
    assert not isinstance(raised.value, NoModelError)
    with pytest.raises(NoModelError, match=r"version=7\) not found"):
        registry.find(ModelRef(versions.name, number="7"))


class Answers(ThreadingHTTPServer):
    """A server that always answers the same, and notes what it was sent."""

    daemon_threads = True

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.body, self.headers = status, body, headers
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Answers

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        self.send_response(self.server.status)
        for name, value in {"Content-Length": str(len(self.server.body)), **self.server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[Answers]:
    with Answers(status, body, headers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "headers", "said"),
    [
        (200, b"<html>", {}, "answers with something else than JSON; is it MLflow's address?"),
        (200, b"[]", {}, "answers with something else when asked for models:/cows@champion"),
        (200, b'{"model_version": 3}', {}, "answers with something else than a version of a model"),
        (200, b"\xff\xfe\x00", {}, "answers with something else than JSON"),
        (404, b"<html>", {}, "has no such page (404); is it MLflow's address?"),
        (500, b'{"error_code": "INTERNAL_ERROR", "message": "full\\nand more"}', {}, "fails (500: full)"),
        (503, b"", {}, "fails (503)"),
        (401, b"", {}, "refuses (401); set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (
            302,
            b"",
            {"Location": "https://sso.example/"},
            "sends elsewhere (302); if that is where it is, give the address https://sso",
        ),
    ],
)
def test_what_is_no_registry_is_one_line(status: int, body: bytes, headers: dict[str, str], said: str) -> None:
    with answering(status, body, **headers) as server, pytest.raises(AwayError) as raised:
        MlflowRest(server.url).find(CHAMPION)
    assert str(raised.value).startswith(f"the registry {server.url} ")
    assert said in str(raised.value)
    assert server.url not in raised.value.short


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((b"READY", b"PENDING_REGISTRATION"), "cannot be used: MLflow says PENDING_REGISTRATION"),
        ((b"keypipe.onnx_sha256", b"other"), "has no tag keypipe.onnx_sha256"),
    ],
)
def test_a_version_that_cannot_be_served_is_none(change: tuple[bytes, bytes], said: str) -> None:
    with answering(200, FOUND) as server:
        assert MlflowRest(f"{server.url}/").find(CHAMPION) == Version("cows", "3", "ab")
    with answering(200, FOUND.replace(*change)) as server, pytest.raises(NoVersionError, match=said):
        MlflowRest(server.url).find(CHAMPION)


def test_a_download_that_stops_is_no_file(tmp_path: Path) -> None:
    body = b'{"artifact_uri": "file:///somewhere"}'
    with answering(200, body) as server:
        registry = MlflowRest(server.url)
        registry.download(Version("cows", "3", "ab"), NETWORK, tmp_path / "m")
        assert [path.partition("?")[0] for path, _ in server.asked] == [
            "/api/2.0/mlflow/model-versions/get-download-uri",
            "/model-versions/get-artifact",
        ]
    with answering(200, body, **{"Content-Length": "100"}) as server, pytest.raises(PoseError):
        MlflowRest(server.url).download(Version("cows", "3", "ab"), NETWORK, tmp_path / "m")


def test_nothing_listens() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(AwayError, match=r"does not answer .*refused.*; start it, or correct --tracking-uri"):
        MlflowRest(url).find(CHAMPION)


def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(rest, "_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(AwayError, match="timed out"):
        MlflowRest(f"http://127.0.0.1:{silent.getsockname()[1]}").find(CHAMPION)


def test_credentials_are_mlflows_and_go_to_the_registry_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    with answering(200, FOUND) as server:
        host = server.url.removeprefix("http://")
        MlflowRest(server.url).find(CHAMPION)
        MlflowRest(f"http://ann:p%40ss@{host}").find(CHAMPION)
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
        MlflowRest(server.url).find(CHAMPION)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "p@ss")
        MlflowRest(server.url).find(CHAMPION)
        assert [sent for _, sent in server.asked] == [None, "Basic YW5uOnBAc3M=", "Bearer t0ken", "Basic YW5uOnBAc3M="]
    with answering(200, b"network") as elsewhere:
        other = elsewhere.url.removeprefix("http://")
        uri = f'{{"artifact_uri": "mlflow-artifacts://{other}/1/m 2"}}'.encode()
        with answering(200, uri) as server:
            MlflowRest(server.url).download(Version("cows", "3", "ab"), NETWORK, tmp_path / "m")
            assert server.asked[0][1] == "Basic YW5uOnBAc3M="
        assert elsewhere.asked == [("/api/2.0/mlflow-artifacts/artifacts/1/m%202/artifacts/model.onnx", None)]
    assert (tmp_path / "m").read_bytes() == b"network"


def test_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="where is the registry"):
        find_address(None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////data/mlflow.db")
    with pytest.raises(ConfigError, match=r"read inside the workspace alone, elsewhere through `mlflow server`"):
        find_address(None)
    with pytest.raises(ConfigError, match=r"^postgresql://db/mlflow: no server"):
        find_address("postgresql://ann:secret@db/mlflow")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "https://registry.example/mlflow")
    assert find_address(None) == "https://registry.example/mlflow"
    assert find_address("http://other:5000") == "http://other:5000"


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigError, match=r"ca\.pem: no certificate that can be read"):
        MlflowRest("https://registry.example")


def test_names_of_models() -> None:
    assert parse_ref("exports/model.onnx") is None
    assert parse_ref("models:/cows@champion") == ModelRef("cows", alias="champion")
    assert parse_ref("models:/big cows@home@champion") == ModelRef("big cows@home", alias="champion")
    assert parse_ref("models:/cows/12") == ModelRef("cows", number="12")
    assert str(parse_ref("models:/cows/12")) == "models:/cows/12"
    for wrong in ("models:/cows", "models:/cows@", "models:/@champion", "models:/cows/last", "models:/"):
        with pytest.raises(ConfigError, match="expected models:/NAME@ALIAS or models:/NAME/VERSION"):
            parse_ref(wrong)
