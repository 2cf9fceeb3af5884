"""Requests under load while the alias moves again and again: is any of them lost, or answered by the wrong model?"""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.serving.clients import ask, percentiles, plain_body
from tests.mlflow_server import MlflowServer
from tests.model_versions import Versions
from tests.served import Served, serving


def add_mark(onnx: Path, target: Path, mark: str) -> Path:
    """Write the same network under another hash."""
    import onnx as format_of

    model = format_of.load(onnx)
    entry = model.metadata_props.add()
    entry.key, entry.value = "mark", mark
    format_of.save(model, target)
    return target


def count_lost(
    folder: Path, onnx: Path, conf: float, contents: Sequence[bytes], switches: int, clients: int, shadow: bool = False
) -> dict[str, Any]:
    """Move ``champion`` to and fro between two versions, each time when the last move has arrived, under load.

    Args:
        folder: for the MLflow server and all else; empty.
        onnx: the network.
        conf: score from which it sees an object.
        contents: image files.
        switches: moves of the alias.
        clients: how many ask without pause.
        shadow: let a challenger see all of it as well.

    Returns:
        Requests answered and lost, answers whose hash is not the named version's, seconds until each move had
        arrived, and percentiles of the answers' milliseconds.
    """
    server = MlflowServer(folder / "mlflow")
    server.start()
    os.environ["MLFLOW_TRACKING_URI"] = server.url
    try:
        versions = Versions(folder)
        numbers = [versions.add(add_mark(onnx, folder / f"{mark}.onnx", mark)) for mark in ("one", "two", "three")]
        versions.point("champion", numbers[0])
        versions.point("challenger", numbers[2])
        arguments = [versions.ref, "--tracking-uri", server.url, "--poll", "0.5", "--conf", str(conf), "--queue", "64"]
        arguments += ["--shadow", "challenger", "--shadow-share", "1"] if shadow else []
        with serving(folder, *arguments) as served:
            return _count(served, versions, numbers, contents, switches, clients)
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI")
        server.stop()


def _count(
    served: Served, versions: Versions, numbers: Sequence[str], contents: Sequence[bytes], switches: int, clients: int
) -> dict[str, Any]:
    done = threading.Event()
    hashes: dict[str, set[str]] = {}

    def check(answer: http.client.HTTPResponse, content: bytes) -> None:
        model = json.loads(content)["model"]
        if model["path"] != answer.headers["Keypipe-Model"]:
            raise RuntimeError(f"the header says {answer.headers['Keypipe-Model']}, the body {model['path']}")
        hashes.setdefault(model["path"], set()).add(model["sha256"])

    results: list[Any] = []
    bodies = [plain_body(content) for content in contents]
    load = threading.Thread(
        target=lambda: results.append(
            ask(served.port, "/predict", bodies, clients, lambda _number: not done.is_set(), check)
        )
    )
    load.start()
    arrived: list[float] = []
    try:
        for number in range(1, switches + 1):
            wanted = numbers[number % 2]
            started = time.perf_counter()
            versions.point("champion", wanted)
            while _health(served)["model"] != versions.uri(wanted):
                time.sleep(0.02)
            arrived.append(round(time.perf_counter() - started, 2))
    finally:
        done.set()
        load.join()
    (asked,) = results
    state = _health(served)
    p50, p95, p99 = percentiles(asked.milliseconds)
    return {
        "switches": state["registry"]["switches"],
        "failures": state["registry"]["failures"],
        "answered": len(asked.milliseconds),
        "lost": len(asked.lost),
        "first_lost": asked.lost[:3],
        "versions_answered": len(hashes),
        "hashes_of_a_version": max(map(len, hashes.values())),
        "arrived_s": arrived,
        "p50_ms": round(p50),
        "p95_ms": round(p95),
        "p99_ms": round(p99),
        "largest_ms": round(max(asked.milliseconds)),
        "shadow": state.get("shadow"),
    }


def measure_memory(
    folder: Path, onnx: Path, conf: float, contents: Sequence[bytes], requests: int, clients: int
) -> dict[str, Any]:
    """Ask so often and look at the server's memory after every hundredth part.

    Returns:
        Requests lost, and the resident megabytes of the server after each part.
    """
    bodies = [plain_body(content) for content in contents]
    with serving(folder, onnx, "--conf", str(conf), "--queue", "64") as served:
        process = psutil.Process(served.process.pid)
        sizes: list[float] = []
        lost: list[str] = []
        part = max(1, requests // 100)
        for _ in range(requests // part):
            asked = ask(served.port, "/predict", bodies, clients, lambda number: number < part)
            lost += asked.lost
            sizes.append(round(process.memory_info().rss / 1e6, 1))
    return {"requests": requests // part * part, "lost": len(lost), "first_lost": lost[:3], "rss_mb": sizes}


def _health(served: Served) -> Any:
    with urllib.request.urlopen(f"{served.url}/healthz", timeout=60) as answer:
        return json.load(answer)
