"""The server as a process of its own, asked over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import io
import json
import signal
import socket
import struct
import subprocess
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from PIL import Image

from keypipe.batch.prediction import predict
from keypipe.demo.scene import write_demo
from keypipe.errors import ConfigError
from keypipe.images.depth import scale_to_8_bits
from keypipe.inference.model_info import METADATA_KEY, format_keypipe_metadata
from keypipe.inference.onnx_model import load_onnx_model
from keypipe.inference.predictor import Predictor, Thresholds
from keypipe.inference.results import ImageResult
from keypipe.inference.tables import predict_rows
from keypipe.keypoints.skeleton import Schema, Skeleton, parse_schema
from keypipe.serving.app import make_app
from keypipe.serving.model import ServedModel, ServedResult, open_model
from keypipe.serving.settings import Settings
from tests.imports import ROOT
from tests.onnx_files import metadata_of, raw_output, write_constant_model
from tests.patience import PATIENCE
from tests.pose_checkpoint import SIDE_PX, write_random_checkpoint
from tests.served import Served, command, surroundings
from tests.served import serving as served

ARTIFACTS = ROOT / "tests" / "artifacts"
NASTY = "</script><b>奶牛</b> & \"'"
SCHEMA = Schema(
    {
        NASTY: Skeleton(
            ("nose", "left_ear", "right_ear"),
            (("nose", "left_ear"), ("nose", "right_ear")),
            (("left_ear", "right_ear"),),
        )
    }
)
NEAR = {"nose": (14, 30, 0.95), "left_ear": (30, 25, 0.8), "right_ear": (32, 38, 0.6)}
FAR = {"nose": (46, 30, 0.9), "left_ear": (54, 26, 0.2), "right_ear": (55, 38, 0.3)}
COWS = [(NASTY, 0.9, [24.0, 32.0, 30.0, 24.0], NEAR), (NASTY, 0.4, [50.0, 32.0, 16.0, 20.0], FAR)]


def encode(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported network of random weights, whose output depends on every pixel."""
    from tasks.engine.exporting.files import export
    from tasks.engine.settings import configure

    folder = tmp_path_factory.mktemp("model")
    configure(folder)
    checkpoint = write_random_checkpoint(folder / "random.pt")
    return export(checkpoint, "onnx", SIDE_PX, {"simplify": False}, {}, folder, folder).path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of many kinds, one of them turned by its EXIF tag."""
    folder = tmp_path_factory.mktemp("photos")
    drawn = [Image.open(path) for path in write_demo(folder / "drawn", 6, seed=5, size_wh=(200, 150))]
    for path in (folder / "drawn").rglob("*"):
        if path.is_file():
            path.unlink()
    exif = Image.Exif()
    exif[274] = 6
    drawn[0].save(folder / "turned.jpg", exif=exif)
    drawn[1].convert("L").save(folder / "grey.png")
    drawn[2].save(folder / "new.webp")
    drawn[3].save(folder / "old.bmp")
    drawn[4].save(folder / "scan.tif")
    drawn[5].resize((90, 240)).save(folder / "奶牛.jpg")
    return folder


@pytest.fixture(scope="module")
def server(onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("cwd"), onnx, "--conf", "0.1", "--max-megapixels", "2", "--max-mb", "4") as it:
        yield it


@pytest.fixture(scope="module")
def constant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("constant")
    return write_constant_model(folder / "model.onnx", raw_output(SCHEMA, COWS), metadata_of(SCHEMA))


def ask(server: Served, content: Any, query: str = "", **options: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/predict{query}", content=content, timeout=60, **options)


def error_of(answer: httpx.Response) -> str:
    """Return the message of a refusal, which is one line of JSON whatever the reason."""
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    message: str = answer.json()["error"]
    assert message
    assert "\n" not in message
    return message


# ------------------------------------------------------------------------------------ predictions


@pytest.fixture(scope="module")
def expected(onnx: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, dict[str, Any]]:
    """What ``keypipe predict`` writes for each image."""
    output = tmp_path_factory.mktemp("predicted")
    summary = predict(str(photos), onnx, output, thresholds=Thresholds(conf=0.1))
    assert len(summary.files) == 6
    return {Path(entry.file): json.loads((output / entry.json).read_bytes()) for entry in summary.files}


def test_deep_images_are_scaled_where_the_model_was_trained_so(tmp_path: Path, onnx: Path) -> None:
    import onnx as format_of

    model = format_of.load(onnx)
    schema = load_onnx_model(onnx)[1].schema
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, format_keypipe_metadata(schema, "", "", "scale")
    format_of.save(model, tmp_path / "scaled.onnx")
    grey = next(iter(write_demo(tmp_path / "drawn", 1, seed=5, size_wh=(200, 150))))
    values = np.asarray(Image.open(grey).convert("L"))
    (tmp_path / "photos").mkdir()
    Image.fromarray(values.astype(np.uint16) * 16).save(tmp_path / "photos/twelve.png")
    Image.fromarray(scale_to_8_bits(values)).save(tmp_path / "photos/eight.png")
    Image.fromarray(values.astype(np.float32) / 255).save(tmp_path / "photos/floats.tif")
    loose = Thresholds(conf=0.01)
    summary = predict(str(tmp_path / "photos"), tmp_path / "scaled.onnx", tmp_path / "out", thresholds=loose)
    assert not summary.faults
    found = [json.loads((tmp_path / f"out/{name}.json").read_bytes()) for name in ("eight", "twelve", "floats")]
    served = open_model(tmp_path / "scaled.onnx", loose)
    for result in found:
        answer = served.predict(Path(result["file"]).read_bytes(), "", loose)
        told = json.loads(msgspec.json.encode(answer.predictions))
        assert told == result["predictions"] == found[0]["predictions"]
        assert result["predictions"]
    registered = Predictor(*load_onnx_model(tmp_path / "scaled.onnx"))
    rows = predict_rows(registered, [Path(result["file"]).read_bytes() for result in found], loose)
    for number, result in enumerate(found):
        assert [row["score"] for row in rows if row["image"] == number] == [p["score"] for p in result["predictions"]]
    cut = predict(str(tmp_path / "photos"), onnx, tmp_path / "cut", thresholds=loose)
    assert [Path(fault.file).name for fault in cut.faults] == ["floats.tif"]
    assert json.loads((tmp_path / "cut/twelve.json").read_bytes())["predictions"] != found[0]["predictions"]


def test_a_server_that_looks_at_mirrored_images_answers_as_keypipe_predict_mirror(onnx: Path, tmp_path: Path) -> None:
    photo = next(iter(write_demo(tmp_path / "photos", 1, seed=5, size_wh=(200, 150))))
    both = Thresholds(conf=0.05, mirror=True)
    predict(str(photo), onnx, tmp_path / "out", thresholds=both)
    written = json.loads((tmp_path / f"out/{photo.stem}.json").read_bytes())
    assert written["thresholds"]["mirror"] is True
    served = open_model(onnx, both)
    answer = asyncio.run(post_inside(served, photo.read_bytes())).json()
    assert answer["predictions"] == written["predictions"] != []
    plain = json.loads(msgspec.json.encode(served.predict(photo.read_bytes(), "", Thresholds(conf=0.05)).predictions))
    assert plain != answer["predictions"]


def without_names(result: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a server cannot know: the folders of files, and the picture that it does not keep."""
    assert result["file"] in {"", Path(result["file"]).name}
    return result | {"model": result["model"] | {"path": ""}, "file": "", "drawn": "", "times_ms": None}


def test_predictions_are_those_of_the_command(server: Served, expected: dict[Path, dict[str, Any]]) -> None:
    n_found = 0
    for path, one in expected.items():
        answer = ask(server, path.read_bytes())
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        result = answer.json()
        assert list(result) == [*one, "times_ms"]
        assert without_names(result) == without_names(one | {"file": path.name})
        n_found += len(result["predictions"])
    assert n_found > 20


def test_a_result_reads_as_the_files_of_the_command_do(server: Served, photos: Path) -> None:
    content = (photos / "turned.jpg").read_bytes()
    answer = ask(server, content)
    assert msgspec.json.decode(answer.content, type=ImageResult).size_wh == (150, 200)
    result = msgspec.json.decode(answer.content, type=ServedResult)
    assert result.model.path == "random.onnx" or result.model.path.endswith(".onnx")
    assert result.times_ms.decode > 0
    assert result.times_ms.predict > 0
    assert result.times_ms.wait >= 0


def test_a_form_gives_the_same_and_keeps_the_name(server: Served, photos: Path) -> None:
    path = photos / "奶牛.jpg"
    plain = ask(server, path.read_bytes()).json()
    for field in ("file", "image"):
        form = httpx.post(f"{server.url}/predict", files={field: (path.name, path.read_bytes(), "image/jpeg")}).json()
        assert form["file"] == "奶牛.jpg"
        assert form["predictions"] == plain["predictions"]


@pytest.mark.parametrize("content_type", ["image/jpeg", "application/x-www-form-urlencoded", "text/plain", None])
def test_the_bytes_tell_the_format(server: Served, photos: Path, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    assert ask(server, (photos / "grey.png").read_bytes(), headers=headers).status_code == 200


def test_many_clients_at_once_get_what_one_gets(server: Served, expected: dict[Path, dict[str, Any]]) -> None:
    contents = {path: path.read_bytes() for path in expected}

    def one(path: Path) -> tuple[Path, Any]:
        answer = ask(server, contents[path])
        assert answer.status_code == 200, answer.text
        return path, answer.json()["predictions"]

    with ThreadPoolExecutor(12) as pool:
        for path, predictions in pool.map(one, list(contents) * 12):
            assert predictions == expected[path]["predictions"]


def test_parallel_predictions_are_the_same(onnx: Path, tmp_path: Path, expected: dict[Path, dict[str, Any]]) -> None:
    contents = {path: path.read_bytes() for path in expected}
    with served(tmp_path, onnx, "--conf", "0.1", "--parallel", "3") as server, ThreadPoolExecutor(9) as pool:
        paths = list(contents) * 6
        answers = pool.map(lambda path: ask(server, contents[path]).json()["predictions"], paths)
        for path, predictions in zip(paths, answers, strict=True):
            assert predictions == expected[path]["predictions"]


def test_thresholds_of_a_request(server: Served, photos: Path) -> None:
    content = (photos / "old.bmp").read_bytes()
    result = ask(server, content, "?conf=0.2&iou=0.3&max_det=3&keypoint_conf=0.7").json()
    assert result["thresholds"] == {"conf": 0.2, "iou": 0.3, "max_det": 3, "keypoint_conf": 0.7}
    assert len(result["predictions"]) == 3
    assert ask(server, content).json()["thresholds"] == {"conf": 0.1, "iou": 0.7, "max_det": 300, "keypoint_conf": 0.5}
    assert ask(server, content, "?conf=1").json()["predictions"] == []


# --------------------------------------------------------------------------------------- refusals


def png_header(width: int, height: int) -> bytes:
    """Return a whole PNG that says that it is this large, and whose pixels are missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 99))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + pixels + chunk(b"IEND", b"")


def jpeg_header(width: int, height: int) -> bytes:
    """Return a JPEG of 16x16 px that says that it is this large."""
    content = bytearray(encode(Image.new("RGB", (16, 16)), "JPEG"))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


JPEG = encode(Image.effect_noise((120, 80), 50).convert("RGB"), "JPEG")


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"", 422, "no image: the body is empty; send the bytes of an image file"),
        (b"hello", 422, "not an image, or one that is damaged at its start"),
        (JPEG[: len(JPEG) // 2], 422, "the image is truncated or damaged"),
        (encode(Image.new("RGB", (20, 20)), "GIF"), 422, "its format, GIF, is not read"),
        (encode(Image.new("RGB", (5, 20))), 422, "image of 5x20 px is smaller than 10 px"),
        (encode(Image.new("RGB", (2000, 1001))), 413, "2000x1001 px; this server takes up to 2 megapixels"),
        (jpeg_header(3000, 3000), 413, "3000x3000 px; this server takes up to 2 megapixels"),
        (png_header(40_000, 40_000), 422, "more than 178 megapixels"),
        (jpeg_header(60_000, 60_000), 422, "more than 178 megapixels"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(server: Served, content: bytes, status: int, message: str) -> None:
    answer = ask(server, content)
    assert message in error_of(answer)
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?conf=1.5", "conf: Input should be less than or equal to 1, got '1.5'"),
        ("?conf=nan", "conf: "),
        ("?iou=half&max_det=0", "iou: Input should be a valid number"),
        ("?iou=half&max_det=0", "max_det: Input should be greater than or equal to 1"),
        ("?confidence=0.5", "unknown parameter confidence; known are conf, group, iou, keypoint_conf, max_det"),
    ],
)
def test_parameters_are_checked(server: Served, query: str, message: str) -> None:
    answer = ask(server, JPEG, query)
    assert message in error_of(answer)
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"files": [("a", ("a.jpg", JPEG)), ("b", ("b.jpg", JPEG))]}, "the form cannot be read: Too many files"),
        ({"files": {"a": ("a.jpg", JPEG)}, "data": {"conf": "0.3"}}, "field conf is no file; thresholds belong into"),
        ({"files": {"a": (None, b"text")}}, "field a is no file"),
        ({"files": {"a": ("a.jpg", b"")}}, "no image: the body is empty"),
        ({"content": b"rubbish", "headers": {"Content-Type": "multipart/form-data"}}, "Missing boundary"),
        ({"content": b"--x--\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, "no image"),
    ],
)
def test_forms_are_checked(server: Served, form: dict[str, Any], message: str) -> None:
    answer = httpx.post(f"{server.url}/predict", **form)
    assert message in error_of(answer)
    assert answer.status_code == 422


def send_all(port: int, content: Any) -> tuple[int, Any, bytes]:
    """Ask as ``urllib`` does: it reads nothing before all is sent, and fails where the connection is reset before."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", "/predict", content, {"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def test_a_body_that_is_too_large_is_refused_and_its_client_gets_the_answer(server: Served) -> None:
    for content in (b"\0" * 30_000_000, (b"\0" * 100_000 for _ in range(300))):
        status, _, body = send_all(server.port, content)
        assert status == 413
        assert json.loads(body) == {"error": "the body has more than 4 MB, the most that this server takes"}
    assert ask(server, JPEG).status_code == 200


def test_a_client_that_asks_first_need_not_send(server: Served) -> None:
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=20)) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 30000000\r\n\r\n"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_other_addresses(server: Served) -> None:
    for method, address, status in (("GET", "/nowhere", 404), ("GET", "/predict", 405), ("POST", "/model", 405)):
        answer = httpx.request(method, f"{server.url}{address}")
        assert answer.status_code == status
        assert "POST /predict takes an image" in error_of(answer)


class PartOfARequest:
    """A request whose body is not all sent yet: it holds a place for as long as a test wants."""

    def __init__(self, port: int, content: bytes) -> None:
        self._rest = content[50:]
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(content)}\r\n\r\n"
        self._connection.sendall(head.encode() + content[:50])

    def finish(self) -> bytes:
        """Send the rest and return the whole answer."""
        self._connection.sendall(self._rest)
        answer = b""
        while part := self._connection.recv(65536):
            answer += part
        return answer

    def close(self) -> None:
        self._connection.close()


def wait_until_taken(url: str, places: int) -> None:
    for _ in range(200):
        if httpx.get(f"{url}/healthz").json()["taken"] == places:
            return
        time.sleep(0.05)
    raise AssertionError(httpx.get(f"{url}/healthz").text)


def test_a_full_line_sends_clients_away_and_takes_them_again(constant: Path, tmp_path: Path) -> None:
    with served(tmp_path, constant, "--queue", "2", "--parallel", "1") as server, ExitStack() as stack:
        held = [stack.enter_context(closing(PartOfARequest(server.port, JPEG))) for _ in range(3)]
        wait_until_taken(server.url, 3)
        # The body is larger than what the kernel holds for a connection.
        status, headers, body = send_all(server.port, b"\0" * 20_000_000)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert json.loads(body) == {"error": "all 3 places are taken; try again in 1 s"}
        assert httpx.get(f"{server.url}/healthz").json() == {"status": "ok", "places": 3, "taken": 3}
        for part in held:
            assert part.finish().startswith(b"HTTP/1.1 200 ")
        assert ask(server, JPEG).status_code == 200
        wait_until_taken(server.url, 0)


def test_a_crowd_is_answered_or_sent_away(onnx: Path, photos: Path, tmp_path: Path) -> None:
    content = (photos / "new.webp").read_bytes()
    with served(tmp_path, onnx, "--queue", "3") as server:
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(lambda _: ask(server, content), range(200)))
        wait_until_taken(server.url, 0)
        counts = httpx.get(f"{server.url}/metrics").text
    given, refused = ([answer for answer in answers if answer.status_code == status] for status in (200, 503))
    assert len(given) + len(refused) == 200
    assert len(given) >= 4
    assert len({json.dumps(answer.json()["predictions"]) for answer in given}) == 1
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert f'keypipe_requests_total{{status="200"}} {len(given)}.0' in counts


def test_a_client_that_leaves_frees_its_place(constant: Path, tmp_path: Path) -> None:
    with served(tmp_path, constant, "--queue", "0", "--parallel", "1") as server:
        with closing(PartOfARequest(server.port, JPEG)):
            wait_until_taken(server.url, 1)
            assert ask(server, JPEG).status_code == 503
        wait_until_taken(server.url, 0)
        assert ask(server, JPEG).status_code == 200
        text = httpx.get(f"{server.url}/metrics").text
    for status, number in (("200", 1), ("499", 1), ("503", 1)):
        assert f'keypipe_requests_total{{status="{status}"}} {number}.0' in text


# ------------------------------------------------------------------------------- inside a process


async def slowly() -> AsyncIterator[bytes]:
    yield JPEG[:20]
    await asyncio.sleep(5)
    yield JPEG[20:]


async def post_inside(model: ServedModel, content: Any) -> httpx.Response:
    transport = httpx.ASGITransport(make_app(model, Settings()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        return await client.post("/predict", content=content)


def test_a_body_that_comes_too_slowly_is_refused(constant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keypipe.serving.uploads._BODY_SECONDS", 0.2)
    monkeypatch.setattr("keypipe.serving.middleware._READ_ON_SECONDS", 0.2)
    answer = asyncio.run(post_inside(open_model(constant, Thresholds()), slowly()))
    assert error_of(answer) == "the image did not arrive within 0.2 s"
    assert answer.status_code == 408


def test_a_bug_is_called_one(constant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(constant, Thresholds())

    def fail(*_: Any) -> None:
        raise ValueError("secret")

    monkeypatch.setattr(model.predictor, "model", fail)
    answer = asyncio.run(post_inside(model, JPEG))
    assert error_of(answer) == "this is a bug: ValueError"
    assert answer.status_code == 500


@pytest.mark.parametrize(
    "settings", [{"port": 70000}, {"port": -1}, {"parallel": 0}, {"queue": -1}, {"max_mb": 0}, {"max_megapixels": -1.0}]
)
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="should be"):
        Settings(**settings)


# ------------------------------------------------------------------------------- other addresses


def test_the_model_says_what_it_is(constant: Path, tmp_path: Path) -> None:
    with served(tmp_path, constant, "--conf", "0.3") as server:
        card = httpx.get(f"{server.url}/model").json()
    assert card["model"] == {
        "path": "model.onnx",
        "sha256": hashlib.sha256(constant.read_bytes()).hexdigest(),
        "license": "AGPL-3.0-or-later",
        "version": "0.1.0",
    }
    assert parse_schema(card["schema"]) == SCHEMA
    assert card["input_hw"] == [64, 64]
    assert card["end2end"] is False
    assert card["thresholds"] == {"conf": 0.3, "iou": 0.7, "max_det": 300, "keypoint_conf": 0.5}
    assert card["metadata"]["task"] == "pose"
    assert card["metadata"]["kpt_shape"] == "[3, 3]"
    assert card["registered"] is None
    assert card["since"] < time.time()
    assert set(card["colours"]["keypoints"]) == {"nose", "left_ear", "right_ear"}


def test_the_interface_is_described(server: Served) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    assert set(document["paths"]) == {"/predict", "/model", "/healthz", "/metrics"}
    operation = document["paths"]["/predict"]["post"]
    assert {item["name"] for item in operation["parameters"]} == {"conf", "iou", "max_det", "keypoint_conf", "group"}
    assert set(operation["responses"]) == {"200", "401", "408", "413", "422", "500", "503"}
    assert set(operation["requestBody"]["content"]) == {"image/*", "multipart/form-data"}
    assert list(operation["responses"]["200"]["headers"]) == ["Keypipe-Model"]
    reference = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    schemas = document["components"]["schemas"]
    assert set(schemas[reference.rpartition("/")[2]]["properties"]) >= {"predictions", "times_ms", "size_wh"}
    references = {text.split('"')[0] for text in json.dumps(document).split('"#/components/schemas/')[1:]}
    assert references <= set(schemas)


def test_metrics_count(constant: Path, tmp_path: Path) -> None:
    with served(tmp_path, constant) as server:
        for content in (JPEG, JPEG, b"hello"):
            ask(server, content)
        answer = httpx.get(f"{server.url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.splitlines()
    assert 'keypipe_requests_total{status="200"} 2.0' in lines
    assert 'keypipe_requests_total{status="422"} 1.0' in lines
    assert 'keypipe_seconds_count{step="predict"} 2.0' in lines
    assert "keypipe_places 17.0" in lines
    (objects,) = [line for line in lines if line.startswith("keypipe_objects_total{")]
    assert objects.endswith(" 4.0")


# ------------------------------------------------------------------------------- start and end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_requests_that_run(constant: Path, tmp_path: Path, number: int) -> None:
    with served(tmp_path, constant) as server, closing(PartOfARequest(server.port, JPEG)) as part:
        idle = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        wait_until_taken(server.url, 1)
        server.process.send_signal(number)
        time.sleep(0.5)
        assert server.process.poll() is None
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/healthz")
        answer = part.finish()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["predictions"]) == 2
        assert server.process.wait(PATIENCE) == 0
        assert server.process.communicate()[1] == ""
        idle.close()


def fails(folder: Path, *arguments: str | Path) -> str:
    """Start a server that ends with code 2, and return its one line."""
    done = subprocess.run(
        command(*arguments), cwd=folder, env=surroundings(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("keypipe: ")
    return line.removeprefix("keypipe: ")


def test_a_model_that_cannot_be_used(constant: Path, tmp_path: Path) -> None:
    assert fails(tmp_path, "none.onnx").startswith("none.onnx: no such model file")
    (tmp_path / "bad.onnx").write_text("hello")
    assert fails(tmp_path, "bad.onnx").startswith("bad.onnx: not an ONNX model that onnxruntime can run")
    (tmp_path / "best.pt").write_bytes(b"")
    assert fails(tmp_path, "best.pt") == "best.pt: nothing here opens a .pt model (known: .onnx)"
    other = metadata_of(SCHEMA, task="detect")
    path = write_constant_model(tmp_path / "boxes.onnx", raw_output(SCHEMA, COWS), other)
    assert "not a pose model: its task is 'detect'" in fails(tmp_path, path)
    assert "this onnxruntime has no CUDA" in fails(tmp_path, constant, "--device", "cuda:0")


def test_a_place_that_cannot_be_listened_on(constant: Path, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        line = fails(tmp_path, constant, "--port", str(port))
    assert line == f"cannot listen on 127.0.0.1 port {port} (Address already in use); choose --host or --port"
    assert "cannot listen on host.invalid" in fails(tmp_path, constant, "--host", "host.invalid")
    assert fails(tmp_path, constant, "--conf", "3") == "conf should be between 0 and 1, got 3"
    assert fails(tmp_path, constant, "--queue", "-1") == "queue should be at least 0, got -1"


def test_it_listens_on_this_machine_alone(constant: Path, tmp_path: Path) -> None:
    with served(tmp_path, constant) as server:
        assert server.url.startswith("http://127.0.0.1:")
    with served(tmp_path, constant, "--host", "localhost") as server:
        assert httpx.get(f"{server.url}/healthz").status_code == 200


def test_a_line_for_every_request_when_asked_for(constant: Path, tmp_path: Path) -> None:
    with served(tmp_path, constant, "--access-log") as server:
        httpx.get(f"{server.url}/healthz")
        server.process.send_signal(signal.SIGTERM)
        output, errors = server.process.communicate(timeout=PATIENCE)
    assert '"GET /healthz HTTP/1.1" 200' in output + errors


# ------------------------------------------------------------------------------------------ page


@pytest.fixture(scope="module")
def page_server(constant: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("page"), constant) as server:
        yield server


def wait_for(browser: Any, script: str) -> Any:
    for _ in range(100):
        if found := browser.execute_script(script):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{script}: {browser.get_log('browser')}")


def choose(browser: Any, path: Path) -> None:
    browser.find_element("css selector", "#file").send_keys(str(path))


def set_slider(browser: Any, name: str, value: float) -> None:
    script = "const [id, value] = arguments; const it = document.getElementById(id); it.value = value;"
    browser.execute_script(f"{script} it.dispatchEvent(new Event('input'))", name, value)


def test_the_page_shows_keypoints(page_server: Served, browser: Any, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[274] = 6  # 400x600 px upright
    Image.effect_noise((600, 400), 60).convert("RGB").save(photo, exif=exif)
    browser.get(page_server.url)
    assert browser.execute_script("return document.title") == "model.onnx · keypipe"
    assert NASTY in browser.find_element("css selector", ".about").text
    assert browser.find_element("css selector", "#drop").is_displayed()

    choose(browser, photo)
    wait_for(browser, "return document.querySelectorAll('#overlay > g').length === 2")
    assert browser.find_element("css selector", "#count").text == "2 objects"
    assert not browser.find_element("css selector", "#drop").is_displayed()
    assert "photo.jpg, 400 × 600 px" in browser.find_element("css selector", "#facts").text
    assert browser.execute_script("return document.querySelector('#overlay').getAttribute('viewBox')") == "0 0 400 600"
    assert browser.execute_script("return [image.naturalWidth, image.naturalHeight]") == [400, 600]
    assert browser.execute_script("return document.querySelectorAll('#overlay circle').length") == 4
    assert browser.execute_script("return document.querySelectorAll('#overlay line:not(.casing)').length") == 4
    assert [item.text for item in browser.find_elements("css selector", ".seen")] == [
        "3 of 3 keypoints",
        "1 of 3 keypoints",
    ]

    set_slider(browser, "keypoint-conf", 0.25)  # drawn anew without asking
    assert browser.execute_script("return document.querySelectorAll('#overlay circle').length") == 5
    set_slider(browser, "conf", 0.6)
    wait_for(browser, "return document.querySelectorAll('#overlay > g').length === 1")
    assert browser.find_element("css selector", "#count").text == "1 object"

    bad = tmp_path / "bad.jpg"
    bad.write_text("hello")
    choose(browser, bad)
    wait_for(browser, "return !document.getElementById('message').hidden")
    assert browser.find_element("css selector", "#message").text == (
        "bad.jpg: not an image, or one that is damaged at its start"
    )
    set_slider(browser, "conf", 0.2)  # the picture before is still there to ask about
    wait_for(browser, "return document.querySelectorAll('#overlay > g').length === 2")
    assert not browser.find_element("css selector", "#message").is_displayed()

    # Chromium reports the answer 422 as an error of its own.
    entries = [entry for entry in browser.get_log("browser") if "422" not in entry["message"]]
    assert entries == []


DROP_OR_PASTE = """
const [kind, name, done] = arguments;
const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 48 });
canvas.toBlob((blob) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([blob], name, { type: "image/png" }));
  const options = { bubbles: true, dataTransfer: transfer, clipboardData: transfer };
  document.body.dispatchEvent(kind === "drop" ? new DragEvent("drop", options) : new ClipboardEvent("paste", options));
  done();
});
"""


def test_an_image_can_be_dropped_and_pasted(page_server: Served, browser: Any) -> None:
    browser.get(page_server.url)
    for kind in ("drop", "paste"):
        browser.execute_async_script(DROP_OR_PASTE, kind, f"{kind}.png")
        wait_for(browser, f"return document.getElementById('facts').textContent === '{kind}.png, 64 × 48 px'")
    link = browser.find_element("css selector", "#json")
    assert link.get_attribute("href").startswith("blob:")
    assert link.get_attribute("download") == "keypoints.json"
    assert browser.get_log("browser") == []


def test_the_page_asks_nobody_else(page_server: Served) -> None:
    answer = httpx.get(page_server.url)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "http" not in answer.text.replace("http://www.w3.org/2000/svg", "")
    assert NASTY not in answer.text


def test_the_page_with_many_objects(server: Served, photos: Path, browser: Any) -> None:
    browser.set_window_size(1280, 900)
    browser.get(server.url)
    choose(browser, photos / "turned.jpg")
    wait_for(browser, "return document.querySelectorAll('#overlay > g').length > 0")
    ARTIFACTS.mkdir(exist_ok=True)
    browser.save_screenshot(str(ARTIFACTS / "serving_many.png"))
    assert (ARTIFACTS / "serving_many.png").stat().st_size > 10_000
    rectangles = browser.execute_script(
        "return [image, overlay].map(e => e.getBoundingClientRect()).map(r => [r.x, r.y, r.width, r.height])"
    )
    np.testing.assert_allclose(rectangles[0], rectangles[1], atol=0.5)
    assert rectangles[0][2] / rectangles[0][3] == pytest.approx(150 / 200, rel=0.01)
