"""``keypipe serve`` against other servers of the same ONNX file, its memory, and its switches under load.

    python -m benchmarks.serving [--part rivals --part memory --part switches] [--rounds 20] [--requests 100]
    python -m benchmarks.serving.alone     # against the same predictor without HTTP

rivals: keypipe (images one at a time, and two at a time), ``mlflow models serve`` and Ultralytics behind FastAPI take
turns, with one client and with four, so that whatever else the machine does meets all of them. The clients share the
cores with the servers. memory: the resident memory of the server over 10,000 requests. switches: requests that are lost
while the alias ``champion`` of a real MLflow server moves 20 times under the load of four clients.

Everything measured is appended to ``measures.jsonl`` in the folder; the same command goes on after a stop: rivals with
the next measurement, memory and switches, which one process must see whole, from their start. Before each part it is
said how long it will take. Without ``--model`` a YOLOv8n-pose of random weights is made.
"""

from __future__ import annotations

import argparse
import functools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.prediction.material import choose_conf, draw_images, make_model
from benchmarks.serving import rivals
from benchmarks.serving.records import Records
from benchmarks.serving.switches import count_lost, measure_memory
from keypipe.inference.predictor import Thresholds
from keypipe.keypoints.predictions import DEFAULT_CONF
from keypipe.serving.model import open_model
from tests.imports import ROOT

PARTS = ("rivals", "memory", "switches")
_CLIENTS = 4
_SWITCH_S = 6.0  # until a move of the alias has arrived, under load


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / ".keypipe/serving-benchmark", help="for everything made")
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all of them")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=100, help="of each measurement of rivals")
    parser.add_argument("--memory-requests", type=int, default=10_000)
    parser.add_argument("--switches", type=int, default=20)
    parser.add_argument("--shadow", action="store_true", help="with a challenger beside, while switching")
    parser.add_argument("--imgsz", type=int, default=640, help="input of the model that is made")
    parser.add_argument("--model", type=Path, help="an ONNX file of your own")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    records = Records(options.folder / "measures.jsonl")
    if not options.table:
        measure(options, records)
    print_tables(records)


def measure(options: Any, records: Records) -> None:
    """Do what is not recorded yet."""
    onnx = options.model.resolve() if options.model else options.folder / f"model-{options.imgsz}.onnx"
    if not onnx.exists():
        with tempfile.TemporaryDirectory() as scratch:
            make_model(Path(scratch), options.imgsz).rename(onnx)
    if not (options.folder / "images").exists():
        draw_images(options.folder, options.images)
    contents = [path.read_bytes() for path in sorted((options.folder / "images").iterdir())]
    conf = DEFAULT_CONF if options.model else choose_conf(onnx, options.folder / "images", 2)
    parts = options.part or PARTS
    say(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; figures of time want a quiet machine")
    if "rivals" in parts:
        with tempfile.TemporaryDirectory() as scratch:
            servers = functools.partial(rivals.all_servers, Path(scratch), onnx, conf, contents)
            rivals.measure(records, options.rounds, options.requests, servers, say)
    each_s = functools.lru_cache(lambda: _seconds_each(onnx, contents[0]))
    n = options.memory_requests
    _once(
        records,
        "memory" if "memory" in parts else "",
        n,
        lambda: n * each_s(),
        lambda folder: measure_memory(folder, onnx, conf, contents, n, _CLIENTS),
    )
    key = [options.switches, options.shadow]
    _once(
        records,
        "switches" if "switches" in parts else "",
        key,
        lambda: 30 + _SWITCH_S * options.switches,
        lambda folder: count_lost(folder, onnx, conf, contents, options.switches, _CLIENTS, options.shadow),
    )


def _once(
    records: Records,
    part: str,
    key: Any,
    seconds: Callable[[], float],
    work: Callable[[Path], dict[str, Any]],
) -> None:
    """Do a part that is one measurement, unless it is there; ``part`` is empty where nobody asks for it."""
    if not part or records.has(part, key):
        return
    say(f"{part}: about {seconds() / 60:.0f} minutes on this machine")
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        values = work(Path(folder))
    records.add(part, key, values | {"took_s": round(time.perf_counter() - started), "load_average": round(before, 1)})


def _seconds_each(onnx: Path, content: bytes) -> float:
    model = open_model(onnx, Thresholds(), "cpu")
    started = time.perf_counter()
    for _ in range(5):
        model.predict(content, "", model.thresholds)
    return (time.perf_counter() - started) / 5


def print_tables(records: Records) -> None:
    """Print what was measured."""
    if records.of("rivals"):
        rivals.print_table(records)
    for _, found in records.of("memory"):
        sizes = found["rss_mb"]
        tenth = len(sizes) // 10
        print(
            f"memory: {found['requests']} requests, {found['lost']} lost; resident {sizes[0]:.0f} MB after the first"
            f" hundredth, {sizes[tenth]:.0f} after a tenth, {sizes[-1]:.0f} at the end (largest {max(sizes):.0f})"
        )
    for (_, shadow), found in records.of("switches"):
        arrived = sorted(found["arrived_s"])
        print(
            f"switches{' with a challenger beside' if shadow else ''}: {found['switches']} under load,"
            f" {found['answered']} requests answered, {found['lost']} lost, {found['hashes_of_a_version']} hash each"
            f" for {found['versions_answered']} versions; a move arrived after {arrived[len(arrived) // 2]:.1f} s"
            f" (up to {arrived[-1]:.1f})"
        )


if __name__ == "__main__":
    main()
