"""``keypipe serve`` against the same predictor in a process of its own, without HTTP.

    python -m benchmarks.serving.alone [--images 40] [--seconds 10] [--clients 1,2,4,8] [--parallel 1,2] [--model FILE]

Latency: one client; every image is predicted on by the server and then in this process, so that whatever else the
machine does meets both. Throughput: so many clients, each of which asks again as soon as it has its answer, and in turn
with them this process, one image after the other. The clients share the cores with the server, which they would not in
use. Without ``--model`` a YOLOv8n-pose of random weights is made; see ``benchmarks.prediction``.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.prediction.material import choose_conf, draw_images, make_model
from keypipe.inference.predictor import Thresholds
from keypipe.keypoints.predictions import DEFAULT_CONF
from keypipe.serving.model import ServedModel, open_model
from tests.served import serving


class Client:
    """A connection that is kept."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def predict(self, content: bytes) -> bytes:
        """Ask for one image's keypoints."""
        self._connection.request("POST", "/predict", content)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {body.decode()}")
        return body


class Latency(NamedTuple):
    """Milliseconds for each image, by the server and in this process, pair by pair."""

    served: list[float]
    local: list[float]

    @property
    def ratio(self) -> float:
        """Median of the ratios of pairs."""
        return statistics.median(a / b for a, b in zip(self.served, self.local, strict=True))


class Throughput(NamedTuple):
    """Images a second of the server and of this process, turn by turn, and the clients' milliseconds."""

    served: list[float]
    local: list[float]
    milliseconds: list[float]

    @property
    def ratio(self) -> float:
        """Median of the ratios of turns."""
        return statistics.median(a / b for a, b in zip(self.served, self.local, strict=True))


def time_ms(function: object, *arguments: object) -> float:
    started = time.perf_counter()
    function(*arguments)  # type: ignore[operator]
    return 1000 * (time.perf_counter() - started)


def measure_latency(port: int, model: ServedModel, contents: Sequence[bytes], rounds: int) -> Latency:
    """Ask for every image by one client and predict it here, in turn.

    Args:
        port: where the server listens.
        model: the same model in this process.
        contents: image files.
        rounds: how often all of them.
    """
    client = Client(port)
    result = Latency([], [])
    for content in list(contents) * rounds:
        result.served.append(time_ms(client.predict, content))
        result.local.append(time_ms(model.predict, content, "", model.thresholds))
    return result


def measure_throughput(
    port: int, model: ServedModel, contents: Sequence[bytes], clients: int, seconds: float, turns: int = 3
) -> Throughput:
    """Let clients ask without pause, and in turn predict here without pause.

    Args:
        port: where the server listens.
        model: the same model in this process.
        contents: image files, taken in turn.
        clients: how many at once.
        seconds: for all turns of one of the two together.
        turns: of each.
    """
    result = Throughput([], [], [])
    for _ in range(turns):
        result.served.append(_ask_for(port, contents, clients, seconds / turns, result.milliseconds))
        started, done = time.perf_counter(), 0
        for content in itertools.cycle(contents):
            model.predict(content, "", model.thresholds)
            done += 1
            if time.perf_counter() - started > seconds / turns:
                break
        result.local.append(done / (time.perf_counter() - started))
    return result


def _ask_for(port: int, contents: Sequence[bytes], clients: int, seconds: float, milliseconds: list[float]) -> float:
    deadline = time.perf_counter() + seconds
    errors: list[Exception] = []

    def one(offset: int) -> None:
        client = Client(port)
        try:
            for content in itertools.islice(itertools.cycle(contents), offset, None):
                milliseconds.append(time_ms(client.predict, content))
                if time.perf_counter() > deadline:
                    return
        except Exception as error:  # noqa: BLE001 - raised below, in the caller's thread
            errors.append(error)

    before, started = len(milliseconds), time.perf_counter()
    threads = [threading.Thread(target=one, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return (len(milliseconds) - before) / (time.perf_counter() - started)


def format_ms(values: Sequence[float]) -> str:
    """Return median and 95th percentile."""
    median, p95 = np.percentile(values, [50, 95])
    return f"{median:9.1f}{p95:9.1f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3, help="of the latency over all images")
    parser.add_argument("--seconds", type=float, default=10, help="of each throughput")
    parser.add_argument("--clients", default="1,2,4,8", help="numbers of clients at once")
    parser.add_argument("--parallel", default="1,2", help="numbers of images that the server predicts at once")
    parser.add_argument("--imgsz", type=int, default=640, help="input of the model that is made")
    parser.add_argument("--model", type=Path, help="an ONNX file of your own")
    options = parser.parse_args()
    numbers = [[int(item) for item in text.split(",")] for text in (options.clients, options.parallel)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = options.model.resolve() if options.model else make_model(folder, options.imgsz)
        source = draw_images(folder, options.images)
        conf = DEFAULT_CONF if options.model else choose_conf(path, source, 2)
        contents = [file.read_bytes() for file in sorted(source.iterdir())]
        model = open_model(path, Thresholds(conf=conf), "cpu")
        print(f"{len(contents)} images, {statistics.mean(map(len, contents)) / 1000:.0f} kB on the average")
        print(f"{'':34}{'median':>9}{'p95 ms':>9}{'images/s':>10}{'ratio':>8}")
        for parallel in numbers[1]:
            arguments = (path, "--conf", str(conf), "--device", "cpu", "--parallel", str(parallel), "--queue", "64")
            with serving(folder, *arguments) as server:
                latency = measure_latency(server.port, model, contents, options.rounds)
                print(f"{'in this process':34}{format_ms(latency.local)}")
                print(
                    f"{f'--parallel {parallel}, one client':34}{format_ms(latency.served)}{'':10}{latency.ratio:8.2f}"
                )
                for clients in numbers[0]:
                    found = measure_throughput(server.port, model, contents, clients, options.seconds)
                    rate = f"{statistics.median(found.served):10.1f}{found.ratio:8.2f}"
                    print(f"{f'--parallel {parallel}, clients: {clients}':34}{format_ms(found.milliseconds)}{rate}")
    print(
        "ratio: of milliseconds with one client, of images a second with several; server / this process, turn by turn"
    )


if __name__ == "__main__":
    main()
