"""The pixel pass against bare reduced decoding of the same files, and the search for near duplicates.

    python benchmarks/pixels.py [--images 1000] [--rounds 5]

Prints a table and two ratios. The programs take turns, round by round, on the same generated files, and the medians
are compared, so that whatever else the machine does meets all of them alike.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2
import numpy as np
from PIL import Image

from keypipe.demo.scene import draw_scene
from keypipe.images.near_duplicates import near_duplicates
from keypipe.images.pixels import PixelFacts, read_pixels

SIZE_WH = (640, 480)
TARGET = 1.3
N_SCENES = 20
CHUNK = 64
N_HASHES = 50_000


def write_image(folder: Path, index: int) -> tuple[str, Path]:
    """Write a photo-like JPEG of about 100 kB: a drawn scene with a camera's noise."""
    rng = np.random.default_rng(index)
    scene = draw_scene(np.random.default_rng(index % N_SCENES), SIZE_WH).image
    noisy = np.clip(scene + rng.normal(0, 6, scene.shape), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(noisy).save(out, "JPEG", quality=90)
    path = folder / f"{index:06d}.jpg"
    path.write_bytes(out.getvalue())
    return hashlib.md5(out.getvalue()).hexdigest(), path


def decode_opencv(flag: int, paths: Sequence[Path]) -> None:
    cv2.setNumThreads(1)
    for path in paths:
        cv2.imread(str(path), flag)


def decode_pillow(paths: Sequence[Path]) -> None:
    for path in paths:
        image = Image.open(path)
        image.draft("L", (SIZE_WH[0] // 4, SIZE_WH[1] // 4))
        image.load()


def in_processes(work: Callable[[Sequence[Path]], None], processes: int, paths: Sequence[Path]) -> None:
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    if processes == 1:
        for chunk in chunks:
            work(chunk)
        return
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(work, chunks))


def pixel_pass(files: dict[str, Path], processes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        read_pixels(files, Path(folder) / "cache", processes)


def measure(programs: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Return name -> median seconds; the programs take turns."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            start = time.perf_counter()
            program()
            times[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ProcessPoolExecutor(cores) as pool:
            files = dict(pool.map(partial(write_image, folder), range(options.images), chunksize=20))
        paths = list(files.values())
        size_kb = sum(path.stat().st_size for path in paths) / len(paths) / 1000
        print(f"{len(paths)} JPEGs of {SIZE_WH[0]}x{SIZE_WH[1]} px, {size_kb:.0f} kB each; median of {options.rounds}")
        bare = "OpenCV, 1/4"
        for processes in sorted({1, cores}):
            decoders: dict[str, Callable[[Sequence[Path]], None]] = {
                bare: partial(decode_opencv, cv2.IMREAD_REDUCED_GRAYSCALE_4),
                "OpenCV, 1/8": partial(decode_opencv, cv2.IMREAD_REDUCED_GRAYSCALE_8),
                "Pillow, 1/4": decode_pillow,
            }
            programs: dict[str, Callable[[], None]] = {
                f"bare decoding, {name}": partial(in_processes, decode, processes, paths)
                for name, decode in decoders.items()
            }
            programs["pixel pass"] = partial(pixel_pass, files, processes)
            seconds = measure(programs, options.rounds)
            print(f"\n{'processes: ' + str(processes):32} {'seconds':>9} {'images/s':>9} {'pass / it':>10}")
            for program, value in seconds.items():
                ratio = seconds["pixel pass"] / value
                print(f"{program:32} {value:9.2f} {len(paths) / value:9.0f} {ratio:10.2f}")
            ratio = seconds["pixel pass"] / seconds[f"bare decoding, {bare}"]
            print(f"ratio pixel pass / bare reduced decoding: {ratio:.2f} (target: at most {TARGET})")
        cache = folder / "cache"
        read_pixels(files, cache)
        cached = measure({"cached": lambda: read_pixels(files, cache) and None}, options.rounds)["cached"]
        print(f"\npixel pass, all in the cache: {cached * 1e6 / len(paths):.0f} µs an image")
    hashes = np.random.default_rng(0).integers(1, 2**63, N_HASHES).tolist()
    facts = {f"{index:032x}": PixelFacts(f"{index:032x}", value, "") for index, value in enumerate(hashes)}
    seconds = measure({"search": lambda: near_duplicates(facts) and None}, options.rounds)
    print(f"near duplicates among {N_HASHES} images: {seconds['search']:.2f} s")


if __name__ == "__main__":
    main()
