"""What a recipe of training is worth with a few hundred images.

    python -m benchmarks.few_images --work FOLDER [--data setsquare setsquare256 mos demo beetles]
        [--recipes light rising] [--steps 600]
        [--seeds 0] [--folds 1 2 3 4 5] [--minutes 60] [--table]

The images of each dataset are dealt into five folds as `split.folds` deals them, near duplicates together; a tenth that
no fold holds chooses the best epoch. Every recipe, and the shipped one, is trained by the train stage from random
weights on four folds, with the same seeds and the same number of steps, on one thread, and measured on the fifth by
keypipe's evaluation, sigma 0.1. ``mirrored`` is no training of its own: the shipped recipe's weights look at every
image mirrored as well. Differences from the shipped recipe have intervals of 95 % by a paired bootstrap over
the images of each fold. Steps are equal and not seconds, so a busy machine changes nothing; what a recipe costs is its
processor time by the shipped one's.

Every training is appended to ``few_images.jsonl`` in the folder; the same command goes on after a stop, a training at
its last whole epoch; ``--table`` prints the table from there. It says beforehand how long it will take.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.few_images.cells import N_FOLDS, estimate, list_cells, lower_priority, read_rows, run_cell
from benchmarks.few_images.comparison import compare, format_table
from benchmarks.few_images.recipes import MIRRORED, RECIPES, SHIPPED
from benchmarks.trainings import PROTOCOLS, SHARED_DATA


def main() -> None:
    """Train what is not yet there, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of data, results and what was found; kept")
    parser.add_argument("--data", nargs="+", choices=[*PROTOCOLS], default=["setsquare", "mos", "demo", "beetles"])
    parser.add_argument("--recipes", nargs="+", choices=[*RECIPES, *MIRRORED], default=["light", "rising"])
    parser.add_argument("--steps", nargs="+", type=int, default=[600])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--folds", nargs="+", type=int, choices=range(1, N_FOLDS + 1), default=range(1, N_FOLDS + 1))
    parser.add_argument("--minutes", type=float, help="begin no training after so long")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    work: Path = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    rows = read_rows(work)
    if not options.table:
        lower_priority()
        here = [name for name in options.data if PROTOCOLS[name].is_here]
        for name in [name for name in options.data if name not in here]:
            print(f"{name}: skipped, {SHARED_DATA / str(PROTOCOLS[name].folder)} is not there")
        recipes = list(dict.fromkeys([SHIPPED, *options.recipes]))
        cells = [
            cell for cell in list_cells(here, options.steps, options.seeds, options.folds, recipes) if cell not in rows
        ]
        minutes = estimate(work, cells, rows) / 60
        print(f"{len(cells)} trainings; about {minutes:.0f} minutes on this machine as it is now", flush=True)
        started = time.monotonic()
        for done, cell in enumerate(cells):
            if options.minutes and time.monotonic() - started > 60 * options.minutes:
                print(f"{done} of {len(cells)} trained; the same command goes on")
                break
            rows[cell] = row = run_cell(work, cell)
            print(f"{cell.name}: {row['seconds']:.0f} s, AP {row['AP']:.3f}, within {row['within']:.3f}", flush=True)
    print(format_table(compare(work, rows)))


if __name__ == "__main__":
    main()
