"""How often drift is found where there is none, how often where there is, and how near expected accuracy comes.

``OMP_NUM_THREADS=1 python -m benchmarks.drift --work FOLDER`` trains the demo's model on half of 360 images, predicts
once on pools of fresh drawings, and draws windows of 60 images from them. It goes on where it was stopped, appends what
it measures to ``drift.jsonl`` in that folder, and prints the table of docs/drift.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from benchmarks.drift.model import make_model
from benchmarks.drift.pool import Pool
from benchmarks.drift.shifts import MEANING, STRENGTHS
from benchmarks.serving.records import Records
from keypipe.drift.closeness import Truth, list_keypoints
from keypipe.drift.rows import Row
from keypipe.drift.segments import Window
from keypipe.inference.predictor import Thresholds
from tasks.drift.in_use import ModelInUse, find_model_in_use
from tasks.drift.settings import DriftParams
from tasks.drift.validation_side import ValidationSide, look_at_validation_side
from tasks.drift.watch import Watched, judge
from tasks.progress import tell_nobody

FRESH_SEED = 1000
SHIFTED_SEED = 2000
KEYPOINT_CONF = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of model, pools and measurements")
    parser.add_argument("--fresh", type=int, default=600, help="fresh images of the same kind (%(default)s)")
    parser.add_argument("--shifted", type=int, default=100, help="images of each shift and strength (%(default)s)")
    parser.add_argument("--images", type=int, default=60, help="images of a window (%(default)s)")
    parser.add_argument("--draws", type=int, default=200, help="windows of the same kind (%(default)s)")
    parser.add_argument("--shifted-draws", type=int, default=20, help="windows of each shift (%(default)s)")
    parser.add_argument("--table", action="store_true", help="print what was measured, and measure nothing")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    records = Records(options.work / "drift.jsonl")
    if not options.table:
        measure(options, records)
    print_table(records)


def measure(options: Any, records: Records) -> None:
    root = (options.work / "workspace").resolve()
    onnx = make_model(root)
    model = find_model_in_use(root)
    params = DriftParams()
    side = look_at_validation_side(root, model, params.splits, Thresholds(), tell_nobody, views=True)
    pool = Pool(options.work / "pool", onnx, model.sha256)
    kinds = [("same", 0.0, options.fresh, FRESH_SEED, options.draws)]
    kinds += [
        (kind, strength, options.shifted, SHIFTED_SEED, options.shifted_draws)
        for kind, strengths in STRENGTHS.items()
        for strength in strengths
    ]
    for kind, strength, n, seed, draws in kinds:
        rows, truth = pool.get(kind, strength, n, seed)
        rng = np.random.default_rng(seed)
        for number in range(draws):
            chosen = np.sort(rng.choice(n, options.images, replace=False))
            key = f"{strength:g}-{number}"
            if not records.has(kind, key):
                values = look(model, side, [rows[i] for i in chosen], [truth[i] for i in chosen], params, number)
                records.add(kind, key, {"strength": strength, **values})


def look(
    model: ModelInUse,
    side: ValidationSide,
    rows: list[Row],
    truth: list[Truth],
    params: DriftParams,
    seed: int,
) -> dict[str, Any]:
    """Judge a window, and compare what is expected with what is true."""
    window = Window(rows, len(rows), {}, [])
    found: Watched = judge(model, side, window, 0.0, 1e6, params, KEYPOINT_CONF, None, seed)
    keypoints = list_keypoints(
        rows, range(len(rows)), side.info.schema, side.shapes, KEYPOINT_CONF, views=True, truth=truth
    )
    unbound = judge_unbound(model, side, window, params, seed)
    expected = found.expected
    assert expected is not None
    return {
        "kind": found.kind,
        "clear": sorted({item.name for item in found.comparison.clear()}),
        "separable": found.novelty.auc if found.novelty else None,
        "closeness_separable": expected.separable,
        "outside": expected.outside,
        "expected": expected.share,
        "low": expected.low,
        "high": expected.high,
        "would_expect": unbound,
        "true": float(keypoints.close.mean()) if len(keypoints.close) else None,
        "shown": len(keypoints.close),
        "validation": found.reliability.observed if found.reliability else None,
        "validation_error": found.reliability.error if found.reliability else None,
        "method": found.reliability.method if found.reliability else None,
    }


def judge_unbound(
    model: ModelInUse, side: ValidationSide, window: Window, params: DriftParams, seed: int
) -> float | None:
    """Return what would be expected if shift never kept a number back."""
    lenient = params.model_copy(update={"separable": 1.0, "outside": 1.0})
    found = judge(model, side, window, 0.0, 1e6, lenient, KEYPOINT_CONF, None, seed)
    return found.expected.share if found.expected else None


def print_table(records: Records) -> None:
    same = [values for _, values in records.of("same")]
    if same:
        alarms = sum(values["kind"] == "drift" for values in same)
        bounds = binomtest(alarms, len(same)).proportion_ci(0.95, method="exact")
        print(
            f"false alarms: {alarms} of {len(same)} ({alarms / len(same):.1%}; exact 95 % bounds {bounds.low:.1%} to"
            f" {bounds.high:.1%}); images differ: {sum(values['kind'] == 'images differ' for values in same)}"
        )
    print("| images | strength | drift | images differ | no number | expected | true | off by | inside the interval |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    groups = [("same", 0.0)] + [(kind, strength) for kind, values in STRENGTHS.items() for strength in values]
    for kind, strength in groups:
        mine = [values for _, values in records.of(kind) if values["strength"] == strength]
        if mine:
            print(_line(kind, strength, mine))


def _line(kind: str, strength: float, mine: list[dict[str, Any]]) -> str:
    given = [values for values in mine if values["expected"] is not None]
    known = [values for values in mine if values["true"] is not None]
    off = [abs(values["would_expect"] - values["true"]) for values in known if values["would_expect"] is not None]
    inside = sum(values["low"] <= values["true"] <= values["high"] for values in given)
    would = [values["would_expect"] for values in mine if values["would_expect"] is not None]
    cells = [
        kind,
        f"{strength:g} {MEANING[kind]}" if kind in MEANING else "",
        *(f"{sum(values['kind'] == name for values in mine)} of {len(mine)}" for name in ("drift", "images differ")),
        f"{len(mine) - len(given)} of {len(mine)}",
        f"{np.mean(would):.3f}" if would else "–",
        f"{np.mean([values['true'] for values in known]):.3f}" if known else "–",
        f"{np.mean(off):.3f}" if off else "–",
        f"{inside} of {len(given)}" if given else "–",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
