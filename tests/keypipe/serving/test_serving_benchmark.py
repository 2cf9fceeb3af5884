from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.prediction import choose_conf, draw_images, make_model
from benchmarks.serving import measure_latency, measure_throughput
from keypipe.inference.predictor import Thresholds
from keypipe.serving.model import open_model
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
