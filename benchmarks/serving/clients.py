"""Clients that ask without pause, and what became of each request."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Asked(NamedTuple):
    """What became of requests.

    Attributes:
        milliseconds: of each that was answered.
        seconds: from the first to the last.
        lost: what went wrong with the others.
    """

    milliseconds: list[float]
    seconds: float
    lost: list[str]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.milliseconds) / self.seconds


Check = Callable[[http.client.HTTPResponse, bytes], None]
"""Looks at an answer, and raises where it is not as it should be."""


def plain_body(content: bytes) -> tuple[bytes, dict[str, str]]:
    """Return what a server is sent that takes an image file as it is."""
    return content, {}


def mlflow_body(content: bytes) -> tuple[bytes, dict[str, str]]:
    """Return what MLflow's server is sent: JSON with the file as base64 text."""
    records = {"dataframe_records": [{"image": base64.b64encode(content).decode()}]}
    return json.dumps(records).encode(), {"Content-Type": "application/json"}


def ask(
    port: int,
    path: str,
    bodies: Sequence[tuple[bytes, dict[str, str]]],
    clients: int,
    goes_on: Callable[[int], bool],
    check: Check | None = None,
) -> Asked:
    """Let clients ask, each again as soon as it has its answer, on connections that are kept.

    Args:
        port: where the server listens on this machine.
        path: what is asked.
        bodies: what is sent in turn, with headers.
        clients: how many at once.
        goes_on: is given the number of requests that were begun, and tells whether another one is.
        check: looks at every answer.
    """
    begun, lock = itertools.count(), threading.Lock()
    milliseconds: list[float] = []
    lost: list[str] = []

    def one() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        while True:
            with lock:
                number = next(begun)
            if not goes_on(number):
                break
            body, headers = bodies[number % len(bodies)]
            started = time.perf_counter()
            try:
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
                took = 1000 * (time.perf_counter() - started)
                if answer.status != 200:
                    raise RuntimeError(f"{answer.status}: {content[:200].decode(errors='replace')}")
                if check:
                    check(answer, content)
            except Exception as error:  # noqa: BLE001 - whatever it is, the request is lost
                lost.append(f"{type(error).__name__}: {error}")
                connection.close()
            else:
                milliseconds.append(took)
        connection.close()

    started = time.perf_counter()
    threads = [threading.Thread(target=one) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Asked(milliseconds, time.perf_counter() - started, lost)


def percentiles(milliseconds: Sequence[float]) -> tuple[float, float, float]:
    """Return the 50th, 95th and 99th percentile."""
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99])
    return float(p50), float(p95), float(p99)
