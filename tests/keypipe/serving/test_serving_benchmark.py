"""The programs of ``benchmarks/serving`` run, and go on where they were stopped; what they measure is in the docs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.prediction.material import choose_conf, draw_images, make_model
from benchmarks.serving.alone import measure_latency, measure_throughput
from benchmarks.serving.records import Records
from benchmarks.serving.rivals import CLIENTS, SERVERS, all_servers, list_work, measure, print_table
from benchmarks.serving.switches import count_lost, measure_memory
from keypipe.inference.predictor import Thresholds
from keypipe.serving.model import open_model
from tests.model_versions import network, photo
from tests.served import serving


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("parallel", [1, 2])
def test_the_benchmark_measures_the_server_against_the_predictor(tmp_path: Path, parallel: int) -> None:
    path, source = make_model(tmp_path, 320), draw_images(tmp_path, 12)
    conf = choose_conf(path, source, objects=2)
    contents = [file.read_bytes() for file in sorted(source.iterdir())]
    model = open_model(path, Thresholds(conf=conf), "cpu", parallel=parallel)
    arguments = (path, "--conf", str(conf), "--device", "cpu", "--parallel", str(parallel))
    with serving(tmp_path, *arguments) as server:
        latency = measure_latency(server.port, model, contents, rounds=2)
        assert len(latency.served) == len(latency.local) == 2 * len(contents)
        assert measure_throughput(server.port, model, contents, clients=4, seconds=2).ratio > 0


def test_records_go_on_after_a_stop_in_the_middle_of_a_line(tmp_path: Path) -> None:
    records = Records(tmp_path / "measures.jsonl")
    records.add("rivals", [0, 1, "keypipe"], {"seconds": 1.5})
    with (tmp_path / "measures.jsonl").open("a") as file:
        file.write('{"part": "riv')
    again = Records(tmp_path / "measures.jsonl")
    again.add("memory", 10, {"lost": 0})
    last = Records(tmp_path / "measures.jsonl")
    assert last.has("rivals", [0, 1, "keypipe"])
    assert last.of("memory") == [(10, {"lost": 0})]


def test_every_round_asks_all_servers_in_another_order() -> None:
    work = list(list_work(4))
    assert len(work) == 4 * len(CLIENTS) * len(SERVERS)
    first = [server for number, clients, server in work if clients == 1][:: len(SERVERS)]
    assert first == list(SERVERS)


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_the_rivals_answer_alike_and_nothing_is_measured_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = network(tmp_path / "model.onnx", 0.9)
    contents = [photo(), photo((120, 90))]
    started: list[int] = []

    @contextlib.contextmanager
    def servers() -> Iterator[Any]:
        with all_servers(tmp_path, onnx, 0.25, contents) as rivals:
            started.append(len(rivals))
            yield rivals

    records = Records(tmp_path / "measures.jsonl")
    measure(records, 1, 4, servers, lambda _text: None)
    measure(Records(tmp_path / "measures.jsonl"), 1, 4, servers, lambda _text: None)
    assert started == [len(SERVERS)]
    assert len(records.of("rivals")) == len(CLIENTS) * len(SERVERS)
    print_table(records)
    assert capsys.readouterr().out.count("| mlflow models serve |") == len(CLIENTS)


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_no_request_is_lost_in_memory_and_switches(tmp_path: Path) -> None:
    onnx = network(tmp_path / "model.onnx", 0.9)
    found = measure_memory(tmp_path, onnx, 0.25, [photo()], 200, 2)
    assert (found["lost"], len(found["rss_mb"])) == (0, 100)
    found = count_lost(tmp_path, onnx, 0.25, [photo()], 3, 2, shadow=True)
    assert (found["switches"], found["lost"], found["hashes_of_a_version"], found["versions_answered"]) == (3, 0, 1, 2)
    assert found["shadow"]["compared"] > 0
