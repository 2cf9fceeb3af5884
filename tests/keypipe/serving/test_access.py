"""Who knows the token is answered: over HTTP, by a server of its own process."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from keypipe.errors import ConfigError
from keypipe.serving.settings import TOKEN_VARIABLE, read_token
from tests.model_versions import network, photo
from tests.patience import PATIENCE
from tests.served import Served, surroundings
from tests.served import serving as served

TOKEN = "a-token-of-some-length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
OTHERS = ["/model", "/metrics", "/openapi.json", "/", "/healthz/", "/nowhere", "//healthz", "/healthz/../model"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "token").write_text(f" {TOKEN}\n")
    with served(folder, network(folder / "model.onnx", 0.9), "--token-file", "token") as server:
        yield server


def test_health_is_for_all_and_nothing_else(guarded: Served) -> None:
    answer = httpx.get(f"{guarded.url}/healthz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    for address in OTHERS:
        refused = httpx.get(f"{guarded.url}{address}")
        assert refused.status_code == 401, address
        assert refused.json() == {"error": "the token is missing or wrong; send the header Authorization: Bearer TOKEN"}
        assert "keypipe-model" not in refused.headers
    for method in ("HEAD", "OPTIONS", "POST", "DELETE"):
        assert httpx.request(method, f"{guarded.url}/model").status_code == 401


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer  {TOKEN}", httpx.BasicAuth("me", TOKEN)._auth_header])
def test_the_token_opens(guarded: Served, header: str) -> None:
    headers = {"Authorization": header}
    for address in ("/model", "/metrics", "/openapi.json", "/"):
        assert httpx.get(f"{guarded.url}{address}", headers=headers).status_code == 200
    answer = httpx.post(f"{guarded.url}/predict", content=photo(), headers=headers)
    assert (answer.status_code, answer.headers["keypipe-model"]) == (200, "model.onnx")


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN.upper()}",
     f"Digest {TOKEN}", "Basic !!!", f"Basic {TOKEN}", httpx.BasicAuth(TOKEN, "")._auth_header, "Bearer \xe9"],
)  # fmt: skip
def test_nothing_else_does(guarded: Served, header: str) -> None:
    answer = httpx.post(
        f"{guarded.url}/predict", content=photo(), headers=[(b"Authorization", header.encode("latin-1"))]
    )
    assert answer.status_code == 401
    assert answer.headers.get_list("www-authenticate")[0].startswith("Bearer")


def test_a_body_is_not_taken_from_who_does_not_know_it(guarded: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", guarded.port, timeout=60)
    connection.request("POST", "/predict", b"\0" * 30_000_000, {"Connection": "close"})
    assert connection.getresponse().status == 401
    counted = httpx.get(f"{guarded.url}/metrics", headers=BEARER).text
    assert 'keypipe_requests_total{status="401"}' in counted


def test_the_variable_holds_it_as_well(tmp_path: Path) -> None:
    onnx = network(tmp_path / "model.onnx", 0.9)
    with served(tmp_path, onnx, env=surroundings() | {TOKEN_VARIABLE: TOKEN}) as server:
        assert httpx.get(f"{server.url}/model").status_code == 401
        assert httpx.get(f"{server.url}/model", headers=BEARER).status_code == 200


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty; `openssl rand -hex 32` makes a token"),
        (b" \n", "is empty"),
        (b"two words", "no blanks"),
        ("schlüssel".encode(), "printable ASCII characters alone"),
        (b"a\nb", "printable ASCII characters alone"),
    ],
)
def test_what_is_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, said: str) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_token(tmp_path / "token")
    monkeypatch.setenv(TOKEN_VARIABLE, content.decode())
    with pytest.raises(ConfigError, match=said):
        read_token(None)
    with pytest.raises(ConfigError, match=r"none: the token cannot be read \(No such file or directory\)"):
        read_token(tmp_path / "none")


def test_without_one_everybody_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert read_token(None) == ""


def test_a_token_that_is_written_anew_holds_at_once(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)

    def status(server: Served, token: str) -> int:
        return httpx.get(f"{server.url}/model", headers={"Authorization": f"Bearer {token}"}).status_code

    with served(tmp_path, network(tmp_path / "model.onnx", 0.9), "--token-file", "token") as server:
        assert (status(server, TOKEN), status(server, "another-token")) == (200, 401)
        (tmp_path / "new").write_text("another-token\n")
        (tmp_path / "new").replace(file)
        assert (status(server, TOKEN), status(server, "another-token")) == (401, 200)
        file.unlink()
        assert status(server, "another-token") == 200
        file.write_text("")
        assert (status(server, TOKEN), status(server, "another-token")) == (401, 200)
        server.process.terminate()
        output = server.process.communicate(timeout=PATIENCE)[0]
    assert output.count("the token of before goes on") == 2
    assert "token has another token, which holds from here on" in output
    assert "another-token" not in output
