"""Servers of the same ONNX file, asked in turn: keypipe, MLflow's own, and plain Ultralytics behind FastAPI."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.serving.clients import Asked, ask, mlflow_body, percentiles, plain_body
from benchmarks.serving.records import Records
from flows.services.server import free_port, wait_for_page
from flows.system.process import Tree
from tests.imports import ROOT
from tests.served import serving

KEYPIPE, KEYPIPE_2, MLFLOW, ULTRALYTICS = (
    "keypipe",
    "keypipe --parallel 2",
    "mlflow models serve",
    "Ultralytics, FastAPI",
)
SERVERS = (KEYPIPE, KEYPIPE_2, MLFLOW, ULTRALYTICS)
CLIENTS = (1, 4)
_WARM_UP = 10


class Rival(NamedTuple):
    """A server that listens: its port, what is asked, and the bodies that it is sent."""

    port: int
    path: str
    bodies: list[tuple[bytes, dict[str, str]]]

    def ask(self, requests: int, clients: int) -> Asked:
        """Ask so often; every request must be answered."""
        asked = ask(self.port, self.path, self.bodies, clients, lambda number: number < requests)
        if asked.lost:
            raise RuntimeError(asked.lost[0])
        return asked


@contextmanager
def all_servers(folder: Path, onnx: Path, conf: float, contents: Sequence[bytes]) -> Iterator[dict[str, Rival]]:
    """Start all servers and end them afterwards; one that is not asked does nothing."""
    plain = [plain_body(content) for content in contents]
    with ExitStack() as stack:
        rivals: dict[str, Rival] = {}
        for name, parallel in ((KEYPIPE, "1"), (KEYPIPE_2, "2")):
            arguments = (onnx, "--conf", str(conf), "--device", "cpu", "--parallel", parallel, "--queue", "64")
            rivals[name] = Rival(stack.enter_context(serving(folder, *arguments)).port, "/predict", plain)
        package = _save_package(folder / "package", onnx, contents[0])
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(package), "--env-manager", "local"]
        port = _start(
            stack, folder / "mlflow.log", lambda port: [*command, "--host", "127.0.0.1", "--port", port], "ping"
        )
        rivals[MLFLOW] = Rival(port, "/invocations", [mlflow_body(content) for content in contents])
        command = [sys.executable, "-m", "benchmarks.serving.ultralytics_app", str(onnx)]
        port = _start(stack, folder / "ultralytics.log", lambda port: [*command, port, str(conf)], "healthz")
        rivals[ULTRALYTICS] = Rival(port, "/predict", plain)
        for rival in rivals.values():
            rival.ask(_WARM_UP, 1)
        yield rivals


def _save_package(folder: Path, onnx: Path, example: bytes) -> Path:
    from tasks.tracking.models.packaging import save_package

    save_package(folder, onnx, example, {})
    return folder


def _start(stack: ExitStack, log: Path, command: Callable[[str], list[str]], page: str) -> int:
    port = free_port()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"}
    tree = Tree(command(str(port)), cwd=log.parent, env=env, output=stack.enter_context(log.open("wb")), grace=5)
    stack.callback(tree.end)
    wait_for_page(log, tree, f"http://127.0.0.1:{port}/{page}")
    return port


def list_work(rounds: int) -> Iterator[list[Any]]:
    """Yield round, clients and server: all servers of a round before the next, each time in another order."""
    for number in range(rounds):
        for clients in CLIENTS:
            turn = number % len(SERVERS)
            for server in (*SERVERS[turn:], *SERVERS[:turn]):
                yield [number, clients, server]


def measure(
    records: Records, rounds: int, requests: int, servers: Callable[[], Any], note: Callable[[str], None]
) -> None:
    """Do what is not recorded yet, after saying how long it will take."""
    work = [key for key in list_work(rounds) if not records.has("rivals", key)]
    if not work:
        return
    with servers() as rivals:
        seconds = sum(requests * _seconds_each(rivals[server]) for _, _, server in work)
        note(f"{len(work)} measurements of {requests} requests: {seconds / 60:.0f} minutes or less on this machine")
        for key in work:
            asked = rivals[key[2]].ask(requests, key[1])
            records.add("rivals", key, {"ms": [round(ms, 2) for ms in asked.milliseconds], "seconds": asked.seconds})


def _seconds_each(rival: Rival) -> float:
    asked = rival.ask(5, 1)
    return asked.seconds / 5


def print_table(records: Records) -> None:
    """Print throughput, percentiles, and ratios round by round."""
    found = records.of("rivals")
    print("| server | clients | images/s | p50 ms | p95 ms | p99 ms | images/s, keypipe / this, by rounds |")
    print("|---|---|---|---|---|---|---|")
    for clients in CLIENTS:
        rates = {
            server: {key[0]: len(item["ms"]) / item["seconds"] for key, item in found if key[1:] == [clients, server]}
            for server in SERVERS
        }
        for server in SERVERS:
            values = [ms for key, item in found if key[1:] == [clients, server] for ms in item["ms"]]
            if not values:
                continue
            pairs = sorted(rates[KEYPIPE][n] / rate for n, rate in rates[server].items() if n in rates[KEYPIPE])
            ratio = f"{statistics.median(pairs):.2f} ({pairs[0]:.2f} to {pairs[-1]:.2f})" if pairs else ""
            p50, p95, p99 = percentiles(values)
            rate = statistics.median(rates[server].values())
            print(f"| {server} | {clients} | {rate:.1f} | {p50:.0f} | {p95:.0f} | {p99:.0f} | {ratio} |")
