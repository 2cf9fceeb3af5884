"""convert + split beside labelme2yolo, on the same labelme files.

labelme2yolo writes boxes only: it drops the keypoints, checks little, and writes no COCO file unless asked for that
alone. keypipe's two stage programs do all of theirs, imports included, but for the pass over the pixels, which is
taken from its cache.

    python -m benchmarks.conversion --labelme2yolo PATH_OF_THE_PROGRAM [--images 20000] [--embed] [--times 3]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.data import SCHEMA, write_dataset
from benchmarks.timing import Run, alternate, median, ratios, run
from benchmarks.workspace import environment, make_workspace, set_aside, stage
from tasks.workspace.places import PIXELS


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labelme2yolo", required=True, help="installed for this benchmark alone")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--embed", action="store_true", help="with the images inside the JSON files")
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = make_workspace(Path(temporary) / "workspace", SCHEMA)
        write_dataset(root / "data/raw", options.images, embed=options.embed)
        aside, kept = Path(temporary) / "aside", Path(temporary) / "pixels"
        for name in ("convert", "split"):
            run(stage(name), root, environment())
        shutil.copy2(root / PIXELS, kept)

        def ours() -> Run:
            set_aside(root, aside)
            (root / PIXELS.parent).mkdir(parents=True)
            shutil.copy2(kept, root / PIXELS)  # the pass over the pixels is measured by benchmarks/pixels.py
            parts = [run(stage(name), root, environment()) for name in ("convert", "split")]
            return Run(
                sum(part.seconds for part in parts),
                max(part.largest_mb for part in parts),
                max(part.total_mb for part in parts),
            )

        def theirs() -> Run:
            out = aside / f"theirs-{time.monotonic_ns()}"
            command = [options.labelme2yolo, "--json_dir", str(root / "data/raw"), "--output_dir", str(out)]
            return run([*command, "--val_size", "0.15", "--test_size", "0.15"], root)

        first, second = alternate(ours, theirs, options.times)
    print(f"{options.images} images, embedded: {options.embed}, {options.times} runs each, in turn")
    print(f"{'':24}{'median s':>10}{'images/s':>10}{'peak MB':>10}")
    for name, runs in (("keypipe convert+split", first), ("labelme2yolo", second)):
        seconds = median(runs)
        print(f"{name:24}{seconds:10.2f}{options.images / seconds:10.0f}{max(r.total_mb for r in runs):10.0f}")
    print(f"ratio keypipe / labelme2yolo: {ratios(first, second)}")


if __name__ == "__main__":
    main()
