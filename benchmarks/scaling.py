"""Time and peak memory of convert + split at two sizes of a dataset.

python -m benchmarks.scaling [--small 5000] [--large 50000] [--times 1]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.data import SCHEMA, write_dataset
from benchmarks.timing import Run, median, run
from benchmarks.workspace import environment, make_workspace, set_aside, stage

STAGES = ("convert", "split")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=5_000)
    parser.add_argument("--large", type=int, default=50_000)
    parser.add_argument("--times", type=int, default=1)
    options = parser.parse_args()
    sizes = (options.small, options.large)
    with tempfile.TemporaryDirectory() as temporary:
        roots = {size: make_workspace(Path(temporary) / str(size), SCHEMA) for size in sizes}
        for size, root in roots.items():
            write_dataset(root / "data/raw", size, embed=False)
        runs: dict[int, list[dict[str, Run]]] = {size: [] for size in sizes}
        for _ in range(options.times):
            for size, root in roots.items():
                set_aside(root, Path(temporary) / "aside")
                runs[size].append({name: run(stage(name), root, environment()) for name in STAGES})
    print(f"{'':10}{'images':>8}{'seconds':>10}{'largest MB':>12}{'all MB':>10}")
    for name in STAGES:
        for size in sizes:
            some = [item[name] for item in runs[size]]
            largest, total = max(r.largest_mb for r in some), max(r.total_mb for r in some)
            print(f"{name:10}{size:8}{median(some):10.2f}{largest:12.0f}{total:10.0f}")
    small, large = (
        [
            Run(
                sum(r.seconds for r in item.values()),
                max(r.largest_mb for r in item.values()),
                max(r.total_mb for r in item.values()),
            )
            for item in runs[size]
        ]
        for size in sizes
    )
    print(f"time at {sizes[1]} to time at {sizes[0]}: {median(large) / median(small):.2f} (target 12)")
    for what in ("largest_mb", "total_mb"):
        peaks = [max(getattr(r, what) for r in some) for some in (small, large)]
        print(f"peak memory, {what.removesuffix('_mb')}: {peaks[1] / peaks[0]:.2f} (target 1.5)")


if __name__ == "__main__":
    main()
