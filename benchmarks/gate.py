"""How often the gate is wrong: pairs of models of known difference, on thousands of drawn test splits.

Small models are trained on the demo and see 4,096 drawn images once. Pairs of them get added errors until they differ
by so many margins on all images; then test splits are drawn with replacement, and the gate, and rules that compare
bare figures, say which of the two they would take. A last part lets fifty challengers apply one after the other.

Everything that was drawn is appended to ``draws.jsonl`` in the folder; the same command goes on after a stop, and
``--table`` prints what is there. One processor thread is quickest:

    OMP_NUM_THREADS=1 python -m benchmarks.gate [--part PART …] [--draws 1000] [--minutes 60] [--table]
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import beta

from benchmarks.gate_models import (
    HARMS,
    IMAGES,
    Indices,
    Model,
    Population,
    harm_to,
    make_error,
    see_population,
)
from benchmarks.workspace import ROOT
from keypipe.gate.comparison import Measures, Units, compare, measure
from keypipe.gate.noninferiority import find_levels, standard_errors
from keypipe.gate.rules import Rules
from keypipe.gate.vetoes import find_vetoes
from keypipe.splits.power import HEADLINES, JOINT_POWER, LEVEL, decidable_margin

RULES = Rules()
MARGINS = np.array([RULES.margin_ap, RULES.margin_close])
MIN_IMPROVEMENT = 0.01
"""Of the rule ``> + min_improvement``, in OKS AP."""
LEVELS = (0.05, 0.045, 0.04, 0.035, 0.03, 0.025, 0.02)
PER_PAIR = 50
"""Test splits that are drawn for one pair of models."""
ONE_OF_TWO = {"near": (1, 1), "apart": (0, 1)}
"""Trainings of champion and challenger: the same, or two with seeds of their own."""


class Cell(NamedTuple):
    """What is drawn again and again.

    Attributes:
        part: of the benchmark.
        unit: ``image`` or ``group``.
        size: units in a test split.
        kin: see ``ONE_OF_TWO``.
        harm: what the added error strikes.
        figure: the figure whose difference is known: 0 OKS AP, 1 close share.
        margins: that difference, in margins.
    """

    part: str
    unit: str
    size: int
    kin: str
    harm: str
    figure: int
    margins: float


SIZES = (50, 100, 200, 400, 1000)
GROUPS = (40, 100, 200)
SUPERIOR_SIZES = (100, 400, 1000)


def list_cells(part: str) -> list[Cell]:
    """Return what a part draws."""
    if part in {"tuning", "margin"}:
        harms = ("images",) if part == "tuning" else HARMS[:3]  # the level is fixed where the gate errs most
        images = [
            Cell(part, "image", size, kin, harm, figure, -1.0)
            for size in SIZES
            for kin in ONE_OF_TWO
            for harm in harms
            for figure in (0, 1)
        ]
        groups = [
            Cell(part, "group", size, "apart", harm, figure, -1.0)
            for size in GROUPS
            for harm in ("images", "groups")
            for figure in (0, 1)
        ]
        return images + groups
    if part == "rates":
        return [
            Cell(part, "image", size, kin, "all", 0, margins)
            for size in SIZES
            for kin in ONE_OF_TWO
            for margins in (-2.0, 0.0, 1.0)
        ]
    if part == "superior":
        equal = [
            Cell(part, "image", size, kin, harm, figure, 0.0)
            for size in SUPERIOR_SIZES
            for kin in ONE_OF_TWO
            for harm in ("all", "images")
            for figure in (0, 1)
        ]
        better = [
            Cell(part, "image", size, kin, "all", 0, margins)
            for size in SUPERIOR_SIZES
            for kin in ONE_OF_TWO
            for margins in (1.0, 2.0, 4.0)
        ]
        return equal + better
    return [Cell(part, "image", size, "near", "keypoint", 1, drop) for size in SIZES[1:] for drop in (0.0, -5.0, -10.0)]


class Draws:
    """The file of all draws: a line for each pair of models."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            text = path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]
            self.rows = [json.loads(line) for line in whole.splitlines()]
            if whole != text:  # a line that was cut off goes
                path.write_text(whole, encoding="utf-8")
        self.known = {(row["part"], json.dumps(row["cell"]), row["pair"]) for row in self.rows}

    def has(self, part: str, cell: Any, pair: int) -> bool:
        """Whether a pair has been drawn."""
        return (part, json.dumps(cell), pair) in self.known

    def add(self, part: str, cell: Any, pair: int, values: dict[str, Any]) -> None:
        """Append a line."""
        row = {"part": part, "cell": cell, "pair": pair, **values}
        self.rows.append(row)
        self.known.add((part, json.dumps(cell), pair))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


# ----------------------------------------------------------------------------------------- pairs


def make_pair(population: Population, cell: Cell, pair: int) -> tuple[Model, Model] | None:
    """Make champion and challenger; None if no error makes them differ as they should."""
    seed = 1000 * pair + (500_000 if cell.part == "tuning" else 0)
    champion, challenger = (Model(population, np.full(population.n_images, index)) for index in ONE_OF_TWO[cell.kin])
    if cell.harm == "keypoint":
        return _make_keypoint_pair(population, champion, challenger, cell, seed)
    column, margin = cell.figure, MARGINS[cell.figure]
    below = max(2.0, cell.margins + 1) if cell.part == "superior" else 2.0 if cell.kin == "near" else 0.0
    if below and not harm_to(
        champion, make_error(population, "all", seed + 1), column, champion.figures()[column] - below * margin
    ):
        return None
    target = champion.figures()[column] + cell.margins * margin
    return (
        (champion, challenger) if harm_to(challenger, make_error(population, cell.harm, seed), column, target) else None
    )


def _make_keypoint_pair(
    population: Population, champion: Model, challenger: Model, cell: Cell, seed: int
) -> tuple[Model, Model]:
    """Let the challenger lose at its first keypoint alone; both scatter a little."""
    champion.add(make_error(population, "all", seed + 1)(0.03))
    error = make_error(population, "all", seed + 2)(0.03)
    rng = np.random.default_rng(seed)
    thrown = rng.random(len(error)) < -cell.margins * MARGINS[1] / champion.close_share(0)
    error[thrown, 0] += population.diagonal[thrown, None]
    challenger.add(error)
    return champion, challenger


def draw_split(population: Population, cell: Cell, rng: np.random.Generator) -> tuple[Indices, Units]:
    """Draw the images of a test split, with replacement, and say what their units are."""
    if cell.unit == "image":
        return rng.integers(0, population.n_images, cell.size), Units("image", np.arange(cell.size), cell.size)
    groups = rng.integers(0, population.group.max() + 1, cell.size)
    members = [np.flatnonzero(population.group == group) for group in groups]
    of_image = np.repeat(np.arange(cell.size), [len(item) for item in members])
    return np.concatenate(members), Units("group", of_image, cell.size)


def run_pair(population: Population, cell: Cell, pair: int, n_draws: int) -> dict[str, Any] | None:
    """Draw test splits for one pair of models and count what the rules say."""
    models = make_pair(population, cell, pair)
    if models is None:
        return None
    champion, challenger = models
    rng = np.random.default_rng([pair, 1 if cell.part == "tuning" else 2])
    limits = np.zeros(len(MARGINS)) if cell.part == "superior" else -MARGINS
    counts: Counter[str] = Counter()
    spreads = []
    for _ in range(n_draws):
        images, units = draw_split(population, cell, rng)
        comparison = compare(measure(challenger.score_on(images), units), measure(champion.score_on(images), units))
        values, pulls = comparison.differences[:2], comparison.pulls[:, :2]
        levels = find_levels(limits, values, pulls, seed=0)
        spreads.append(standard_errors(pulls) * np.sqrt(units.count))
        for level in LEVELS:
            counts[f"passed {level}"] += int((levels.above <= level).all())
            counts[f"passed {level} alone"] += int(levels.above[cell.figure] <= level)
        promoted = (levels.above <= LEVEL).all()
        rejected = (levels.below <= LEVEL).any()
        if cell.part not in {"tuning", "margin"}:
            names = [name for name in comparison.names if name not in HEADLINES]
            vetoes = [item.name for item in find_vetoes(comparison, names, RULES.veto_drop or 0, 0) if item.vetoed]
            struck = names[0] if cell.harm == "keypoint" and cell.margins else None
            counts["vetoed"] += bool(vetoes)
            counts["vetoed rightly"] += struck in vetoes
            counts["vetoed wrongly"] += bool(set(vetoes) - {struck})
            rejected = rejected or bool(vetoes)
        counts["rejected"] += int(rejected)
        counts["promoted"] += int(promoted and not rejected)
        counts["larger"] += int(values[0] > 0)
        counts["larger by min_improvement"] += int(values[0] > MIN_IMPROVEMENT)
    truth = (challenger.figures() - champion.figures()).tolist()
    return {"draws": n_draws, "truth": truth, "spread": np.mean(spreads, 0).tolist(), **counts}


# ----------------------------------------------------------------------------------------- fifty in a row

CREEP_SIZES = (400, 1000)
CREEP_HARMS = (0.5, 1.05, 1.25, 2.0)
ROUNDS = 50
SHARES = {"harmful": 0.6, "neutral": 0.3, "helpful": 0.1}
LIBRARY = 500
NEAR_ENOUGH = 0.002


class Library(NamedTuple):
    """Models whose OKS AP on the population is known, and that; float64 (n_models,)."""

    models: list[Model]
    ap: Any


def make_library(population: Population, size: int = LIBRARY) -> Library:
    """Make models: most images from one training, the rest from the other, with more or less error on all keypoints."""
    models = []
    for index in range(size):
        rng = np.random.default_rng([13, index])
        model = Model(population, (rng.random(population.n_images) < rng.uniform(0.8, 1)).astype(np.intp))
        model.add(make_error(population, "all", 77_000 + index)(rng.uniform(0, 0.35)))
        models.append(model)
    return Library(models, np.array([model.figures()[0] for model in models]))


def live_history(library: Library, size: int, harm: float, with_rule: bool, seed: int) -> dict[str, Any]:
    """Let challengers apply, one a round, on one and the same test split.

    Returns:
        How many rounds the model in use was below the best that was ever champion by more than the margin, in truth;
        how many challengers were promoted, and how many of them were harmful.
    """
    rng = np.random.default_rng([17, seed])
    n_images = library.models[0].population.n_images
    images, units = rng.integers(0, n_images, size), Units("image", np.arange(size), size)
    measured: dict[int, Measures] = {}

    def figures(index: int) -> Measures:
        if index not in measured:
            measured[index] = measure(library.models[index].score_on(images), units)
        return measured[index]

    start = np.median(library.ap)
    champion = best = int(np.abs(library.ap - start).argmin())
    best_truth = library.ap[champion]
    below = promoted = harmful = 0
    for _ in range(ROUNDS):
        kind, luck = rng.choice(list(SHARES), p=list(SHARES.values())), rng.random()
        step = {"harmful": -harm, "neutral": 0.0, "helpful": 1.0}[kind] * RULES.margin_ap
        away = np.abs(library.ap - library.ap[champion] - step)
        away[champion] = np.inf
        likely = np.flatnonzero(away <= NEAR_ENOUGH)
        challenger = int(likely[int(luck * len(likely))] if len(likely) else away.argmin())
        references = {champion, best} if with_rule else {champion}
        if all(_passes(figures(challenger), figures(reference)) for reference in references):
            champion = challenger
            promoted, harmful = promoted + 1, harmful + (kind == "harmful")
            best = max(best, champion, key=lambda index: figures(index).values[0])
            best_truth = max(best_truth, library.ap[champion])
        below += int(library.ap[champion] < best_truth - RULES.margin_ap)
    return {"below": below, "promoted": promoted, "harmful": harmful, "end": float(library.ap[champion] - start)}


def _passes(challenger: Measures, reference: Measures) -> bool:
    comparison = compare(challenger, reference)
    return bool((find_levels(-MARGINS, comparison.differences[:2], comparison.pulls[:, :2], 0).above <= LEVEL).all())


# ----------------------------------------------------------------------------------------- running


PARTS = ("tuning", "margin", "rates", "vetoes", "superior", "creep")


def list_work(parts: list[str], n_draws: int, n_histories: int) -> Iterator[tuple[str, Any, int]]:
    """Yield part, cell and number of the pair: one pair of every cell before the second of any."""
    for part in parts:
        if part == "creep":
            for history in range(n_histories):
                for size in CREEP_SIZES:
                    for harm in CREEP_HARMS:
                        for with_rule in (False, True):
                            yield part, [size, harm, with_rule], history
        else:
            for pair in range(n_draws // PER_PAIR):
                for cell in list_cells(part):
                    yield part, list(cell), pair


def run(draws: Draws, folder: Path, n_images: int, work: list[tuple[str, Any, int]], seconds: float) -> None:
    """Do what is not yet done, for so long."""
    population = Population(see_population(folder, n_images))
    library: list[Library] = []

    def do(part: str, cell: Any, pair: int) -> dict[str, Any] | None:
        if part != "creep":
            return run_pair(population, Cell(*cell), pair, PER_PAIR)
        if not library:
            library.append(make_library(population))
        size, harm, with_rule = cell
        return live_history(library[0], size, harm, with_rule, pair)

    print(f"{len(work)} pairs and histories to draw; {estimate(do, work) / 60:.0f} minutes on this machine", flush=True)
    ends = time.monotonic() + seconds
    for done, (part, cell, pair) in enumerate(work):
        if time.monotonic() > ends:
            print(f"{done} of {len(work)} drawn; the same command goes on")
            return
        draws.add(part, cell, pair, do(part, cell, pair) or {"draws": 0})


def estimate(do: Callable[[str, Any, int], Any], work: list[tuple[str, Any, int]]) -> float:
    """Return how many seconds the work will take, from a pair of each part and size."""
    kinds: dict[Any, list[tuple[str, Any, int]]] = defaultdict(list)
    for item in work:
        kinds[item[0], item[1][2] if item[0] != "creep" else item[1][0]].append(item)
    total = 0.0
    for items in kinds.values():
        do(*items[0])
        started = time.perf_counter()
        do(*items[0])
        total += len(items) * (time.perf_counter() - started)
    return total


def interval(count: int, total: int) -> tuple[float, float]:
    """Return the exact 95 % bounds of a share (C. Clopper and E. Pearson, Biometrika 26, 1934)."""
    low = float(beta.ppf(0.025, count, total - count + 1)) if count else 0.0
    high = float(beta.ppf(0.975, count + 1, total - count)) if count < total else 1.0
    return low, high


def percent(count: int, total: int) -> str:
    """Format a share with its bounds."""
    if not total:
        return ""
    low, high = interval(count, total)
    return f"{100 * count / total:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def print_tables(draws: Draws) -> None:
    """Print everything that was drawn as Markdown tables."""
    for part in PARTS:
        rows = [row for row in draws.rows if row["part"] == part]
        if rows:
            print(f"\n### {part}\n")
            printers = {
                "creep": _print_creep,
                "vetoes": _print_vetoes,
                "rates": _print_rates,
                "superior": _print_superior,
            }
            printers.get(part, _print_margin)(rows)


def gather(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Add up the lines of each cell; ``spread`` becomes the mean over pairs."""
    cells: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        if row.get("draws", 1):
            total = cells.setdefault(tuple(row["cell"]), defaultdict(int))
            total["pairs"] += 1
            for key, value in row.items():
                if isinstance(value, int | float) and key != "pair":
                    total[key] += value
            if "spread" in row:
                total["spreads"] = [*(total["spreads"] or []), row["spread"]]
    return cells


def _print_margin(rows: list[dict[str, Any]]) -> None:
    cells = gather(rows)
    for title, name in (
        ("the gate", f"passed {LEVEL}"),
        ("the rule about that figure alone", f"passed {LEVEL} alone"),
        ("`>`", "larger"),
        ("`> + 0.01`", "larger by min_improvement"),
    ):
        for unit in ("image", "group"):
            _print_grid(title, unit, {cell[2:6]: total for cell, total in cells.items() if cell[1] == unit}, name)
    print(f"\n{min(total['draws'] for total in cells.values())} draws a line or more; the worst lines by level:")
    for level in LEVELS:
        for name in (f"passed {level}", f"passed {level} alone"):
            cell, total = max(cells.items(), key=lambda item: item[1][name] / item[1]["draws"])
            print(f"- {name}: {percent(total[name], total['draws'])}, {', '.join(map(str, cell[1:6]))}")


def _print_grid(title: str, unit: str, cells: dict[tuple[Any, ...], dict[str, Any]], name: str) -> None:
    """Print a table with a row for each size and kin, and a column for each harm and figure."""
    lines: dict[tuple[int, str], dict[str, str]] = {}
    for (size, kin, harm, figure), total in cells.items():
        column = f"{harm}, {('AP', 'close')[figure]}"
        lines.setdefault((size, kin), {})[column] = percent(total[name], total["draws"])
    if lines:
        columns = next(iter(lines.values()))
        print(f"\n{title}:\n\n| {unit}s | trainings | {' | '.join(columns)} |\n|{'---|' * (2 + len(columns))}")
        for (size, kin), shares in lines.items():
            print(f"| {size} | {kin} | {' | '.join(shares.values())} |")


def _print_rates(rows: list[dict[str, Any]]) -> None:
    print("| images | decides | trainings | difference | promoted | rejected | undecided | `>` | `> + 0.01` |")
    print("|---|---|---|---|---|---|---|---|---|")
    for cell, total in gather(rows).items():
        n = total["draws"]
        undecided = n - total["promoted"] - total["rejected"]
        spread = np.mean(total["spreads"], 0)
        decides = max(decidable_margin(spread[k], cell[2], JOINT_POWER) / MARGINS[k] for k in range(len(MARGINS)))
        print(
            f"| {cell[2]} | {decides:.1f} | {cell[3]} | {cell[6]:+g} |"
            f" {percent(total['promoted'], n)} | {percent(total['rejected'], n)} | {percent(undecided, n)} |"
            f" {percent(total['larger'], n)} | {percent(total['larger by min_improvement'], n)} |"
        )


def _print_superior(rows: list[dict[str, Any]]) -> None:
    """Print a row for each size, kin and difference; equal models, whatever error makes them so, are one row."""
    cells = gather(rows)
    lines: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for cell, total in cells.items():
        lines[cell[2], cell[3], cell[6]].update({name: value for name, value in total.items() if name != "spreads"})
    print("| images | trainings | difference | draws | promoted | better in AP | rejected | undecided |", end="")
    print(" `>` | `> + 0.01` |")
    print("|" + "---|" * 10)
    for (size, kin, margins), total in sorted(lines.items()):
        n = total["draws"]
        figure = percent(total[f"passed {LEVEL} alone"], n) if margins else ""
        print(
            f"| {size} | {kin} | {margins:+g} | {n} | {percent(total['promoted'], n)} | {figure} |"
            f" {percent(total['rejected'], n)} | {percent(n - total['promoted'] - total['rejected'], n)} |"
            f" {percent(total['larger'], n)} | {percent(total['larger by min_improvement'], n)} |"
        )
    equal = {cell: total for cell, total in cells.items() if cell[6] == 0}
    if equal:
        print(f"\nequal in one figure, promoted: {percent(*_sum(equal.values(), 'promoted'))}; the worst cells:")
        for name in ("promoted", f"passed {LEVEL} alone"):
            cell, total = max(equal.items(), key=lambda item: item[1][name] / item[1]["draws"])
            print(f"- {name}: {percent(total[name], total['draws'])}, {', '.join(map(str, cell[1:6]))}")


def _sum(totals: Iterable[dict[str, Any]], name: str) -> tuple[int, int]:
    found = list(totals)
    return sum(total[name] for total in found), sum(total["draws"] for total in found)


def _print_vetoes(rows: list[dict[str, Any]]) -> None:
    print("| images | loss of one keypoint | draws | vetoed for it | another vetoed |")
    print("|---|---|---|---|---|")
    for cell, total in gather(rows).items():
        n = total["draws"]
        print(
            f"| {cell[2]} | {abs(cell[6]) * MARGINS[1]:.2f} | {n} | {percent(total['vetoed rightly'], n)} |"
            f" {percent(total['vetoed wrongly'], n)} |"
        )


def _print_creep(rows: list[dict[str, Any]]) -> None:
    print("| images | harm, margins | rule | histories | rounds below | ever below | promoted | of them harmful |")
    print("|---|---|---|---|---|---|---|---|")
    ever: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        ever[tuple(row["cell"])] += bool(row["below"])
    for cell, total in sorted(gather(rows).items()):
        n, rule = total["pairs"], "with" if cell[2] else "without"
        print(
            f"| {cell[0]} | {cell[1]:g} | {rule} | {n} | {100 * total['below'] / n / ROUNDS:.1f} % |"
            f" {percent(ever[cell], n)} | {total['promoted'] / n:.1f} | {total['harmful'] / n:.2f} |"
        )


def main() -> None:
    """Draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / ".keypipe/gate-benchmark", help="for everything made")
    parser.add_argument("--part", choices=PARTS, action="append", help="default: all of them")
    parser.add_argument("--images", type=int, default=IMAGES, help="of the population; each number a folder of its own")
    parser.add_argument("--draws", type=int, default=1000, help="test splits for each cell")
    parser.add_argument("--histories", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=60, help="stop after so long")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    draws = Draws(options.folder / "draws.jsonl")
    if not options.table:
        work = [
            item
            for item in list_work(options.part or list(PARTS), options.draws, options.histories)
            if not draws.has(*item)
        ]
        print(
            f"models and {options.images} images first, where they are missing: some 15 minutes",
            flush=True,
        )
        run(draws, options.folder, options.images, work, 60 * options.minutes)
    print_tables(draws)


if __name__ == "__main__":
    main()
