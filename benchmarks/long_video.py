"""How much memory `keypipe predict --track` takes on a long video, and how long that is.

    python -m benchmarks.long_video [--frames 45000] [--kill 0.5]

Draws a video of coloured spots, which a model of a few operations finds, so that nearly all of the time goes into what
is measured: reading, following, writing tables, drawing, encoding. The memory is read twice a second. With
``--kill`` the run is killed once that share of its frames is predicted on, and run again.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import psutil

from tests.keypipe.batch.spots import SCHEMA, SIZE_WH, draw_spots
from tests.onnx_files import write_colour_model

FPS = 25.0
_STEP = re.compile(r"(\d+) of (\d+) .*step (\d) of")
_PROGRAM = """
import sys, time
from keypipe.batch import command
def tell():
    last = 0.0
    def note(what, done, total):
        nonlocal last
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            print(f"{done} of {total} {what}", file=sys.stderr, flush=True)
    return note
command._tell_on_stderr = tell
sys.exit(command.main(sys.argv[1:]))
"""


def write_video(path: Path, n_frames: int) -> None:
    """Draw the video; its spots go there and back in 52 frames, and one of them is away for 22 of these."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, SIZE_WH)
    frames = [draw_spots(number) for number in range(4, 30)]
    for number in range(n_frames):
        writer.write(frames[min(number % 52, 51 - number % 52)])
    writer.release()


def run(folder: Path, kill_at: float) -> list[tuple[int, float, float, float]]:
    """Run the command; return samples: the step, the share of its frames that are done, seconds, megabytes."""
    arguments = ["film.mp4", "--model", "model.onnx", "--output", "out", "--track", "--smooth", "1"]
    arguments += ["--table", "parquet", "--table", "dlc", "--table", "sleap"]
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *arguments], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    watched, samples = psutil.Process(process.pid), []
    assert process.stderr is not None
    for line in process.stderr:
        found = _STEP.match(line)
        if not found:
            print(line, end="", file=sys.stderr)
            continue
        done, total, step = (int(value) for value in found.groups())
        samples.append((step, done / total, time.monotonic() - started, watched.memory_info().rss / 1e6))
        if kill_at and step == 1 and done > kill_at * total:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    return samples


def print_table(samples: list[tuple[int, float, float, float]]) -> None:
    """Print for each step its time, and the most memory in each quarter of its frames."""
    print("| step | seconds | MB in the 1st quarter | 2nd | 3rd | 4th |\n|---|---|---|---|---|---|")
    for step in sorted({sample[0] for sample in samples}):
        own = [sample for sample in samples if sample[0] == step]
        quarters = [
            [megabytes for _, share, _, megabytes in own if quarter / 4 <= share <= (quarter + 1) / 4]
            for quarter in range(4)
        ]
        cells = [f"{max(values):.0f}" if values else "-" for values in quarters]
        print(f"| {step} | {own[-1][2] - own[0][2]:.0f} | {' | '.join(cells)} |")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=45_000)
    parser.add_argument("--kill", type=float, default=0.0, help="share of the frames after which the run is killed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_video(folder / "film.mp4", options.frames)
        write_colour_model(folder / "model.onnx", SCHEMA)
        print(f"{options.frames} frames, {options.frames / FPS / 60:.0f} minutes of video")
        if options.kill:
            print_table(run(folder, options.kill))
            print("killed, and run again:")
        print_table(run(folder, 0.0))
        for path in sorted((folder / "out").iterdir()):
            print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
