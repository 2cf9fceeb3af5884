"""Requests that schemathesis makes of the server's own OpenAPI document: valid ones, and ones that break it."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from PIL import Image
from schemathesis.checks import CHECKS
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode

from keypipe.keypoints.skeleton import Schema, Skeleton
from tests.onnx_files import metadata_of, raw_output, write_constant_model
from tests.patience import PATIENCE
from tests.served import Served, serving

SCHEMA = Schema({"cow": Skeleton(("nose",), (), ())})
COW = ("cow", 0.9, [20.0, 20.0, 10.0, 10.0], {"nose": (20.0, 20.0, 0.9)})
MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
EXAMPLES = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("model")
    model = write_constant_model(folder / "model.onnx", raw_output(SCHEMA, [COW]), metadata_of(SCHEMA))
    with serving(folder, model, "--max-mb", "1") as it:
        yield it


def drawn_image() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 100, 50)).save(buffer, "PNG")
    return buffer.getvalue()


def read_document(server: Served) -> dict[str, Any]:
    document: dict[str, Any] = httpx.get(f"{server.url}/openapi.json", timeout=PATIENCE).json()
    return document


def ask_often(
    server: Served, document: dict[str, Any], path: str, method: str, mode: GenerationMode, image: bytes | None = None
) -> Counter[int]:
    """Ask what schemathesis thinks of; every answer must be one that the document has.

    Args:
        server: which is asked.
        document: what it says of itself.
        path: of an operation.
        method: of the operation.
        mode: whether what is asked fits the document.
        image: the body, for an operation that the document gives none; what fits is then to be accepted.

    Returns:
        Counts by status.
    """
    api = schemathesis.openapi.from_dict(document)
    api.config.update(base_url=server.url)
    operation = api[path][method]
    answers: Counter[int] = Counter()
    excluded = [CHECKS.get_one("positive_data_acceptance")] if image is None else []
    given_body = {} if image is None else {"data": image}

    @seed(5)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        answer = case.call(timeout=PATIENCE, **given_body)
        answers[answer.status_code] += 1
        case.validate_response(answer, excluded_checks=excluded)

    ask()
    return answers


@pytest.mark.parametrize("mode", MODES, ids=["as documented", "broken"])
def test_bodies_that_are_no_images_are_refused(server: Served, mode: GenerationMode) -> None:
    answers = ask_often(server, read_document(server), "/predict", "POST", mode)
    assert set(answers) <= {413, 422}, answers
    assert answers[422] >= 20, answers


@pytest.mark.parametrize("mode", MODES, ids=["as documented", "broken"])
def test_parameters_beside_a_real_image(server: Served, mode: GenerationMode) -> None:
    document = read_document(server)
    del document["paths"]["/predict"]["post"]["requestBody"]
    answers = ask_often(server, document, "/predict", "POST", mode, drawn_image())
    assert set(answers) == {200 if mode is GenerationMode.POSITIVE else 422}, answers
    assert answers.total() >= 20, answers


@pytest.mark.parametrize("path", ["/model", "/healthz", "/metrics"])
def test_questions_are_answered_as_documented(server: Served, path: str) -> None:
    assert set(ask_often(server, read_document(server), path, "GET", GenerationMode.POSITIVE)) == {200}


def test_other_methods_and_addresses_are_refused(server: Served) -> None:
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        for path, operations in read_document(server)["paths"].items():
            for method in {"get", "put", "post", "delete", "patch", "trace"} - operations.keys():
                assert client.request(method, path).status_code == 405, (method, path)
        for path in ("/../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/predict/%00", "/model\\..", "/static/../app.py"):
            assert client.get(path).status_code == 404, path
        assert client.get("/healthz").json()["status"] == "ok"


def test_an_answer_that_the_document_does_not_have_is_noticed(server: Served) -> None:
    document = read_document(server)
    del document["paths"]["/predict"]["post"]["responses"]["422"]
    with pytest.raises(FailureGroup, match="Undocumented"):
        ask_often(server, document, "/predict", "POST", GenerationMode.POSITIVE)
