"""How often drift is found where there is none, how often where there is, and how near expected accuracy comes.

``OMP_NUM_THREADS=1 python -m benchmarks.drift --work FOLDER`` trains the demo's model on half of 360 images, predicts
once on pools of fresh drawings, and draws windows of 50 images from them. It goes on where it was stopped, appends what
it measures to ``drift.jsonl`` in that folder, and prints the table of docs/drift.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from benchmarks.drift.model import make_model
from benchmarks.drift.pool import Pool
from benchmarks.drift.shifts import MEANING, STRENGTHS
from benchmarks.serving.records import Records
from keypipe.drift.closeness import Keypoints, expect, list_keypoints
from keypipe.drift.comparison import compare
from keypipe.drift.features import Feature, extract_features
from keypipe.inference.predictor import Thresholds
from tasks.drift.in_use import find_model_in_use
from tasks.drift.settings import DriftParams
from tasks.drift.validation_side import look_at_validation_side
from tasks.drift.watch import Prepared, prepare, to_kind
from tasks.progress import tell_nobody

FRESH_SEED = 1000
SHIFTED_SEED = 2000
KEYPOINT_CONF = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of model, pools and measurements")
    parser.add_argument("--fresh", type=int, default=400, help="fresh images of the same kind (%(default)s)")
    parser.add_argument("--shifted", type=int, default=80, help="images of each shift and strength (%(default)s)")
    parser.add_argument("--images", type=int, default=50, help="images of a window (%(default)s)")
    parser.add_argument("--draws", type=int, default=200, help="windows of the same kind (%(default)s)")
    parser.add_argument("--shifted-draws", type=int, default=10, help="windows of each shift (%(default)s)")
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
    ready = prepare(side, KEYPOINT_CONF, 0, views=True)
    pool = Pool(options.work / "pool", onnx, model.sha256)
    kinds = [("same", 0.0, options.fresh, FRESH_SEED, options.draws)]
    kinds += [
        (kind, strength, options.shifted, SHIFTED_SEED, options.shifted_draws)
        for kind, strengths in STRENGTHS.items()
        for strength in strengths
    ]
    for kind, strength, n, seed, draws in kinds:
        keys = [f"{strength:g}-{number}" for number in range(draws)]
        if all(records.has(kind, key) for key in keys):
            continue
        rows, truth = pool.get(kind, strength, n, seed)
        numbers, schema = range(n), side.info.schema
        features = extract_features(rows, numbers, schema, side.shapes)
        keypoints = list_keypoints(rows, numbers, schema, side.shapes, KEYPOINT_CONF, views=True, truth=truth)
        rng = np.random.default_rng(seed)
        for number, key in enumerate(keys):
            chosen = rng.choice(n, options.images, replace=False)
            if not records.has(kind, key):
                values = look(ready, features, keypoints, chosen, params, number)
                records.add(kind, key, {"strength": strength, **values})


def look(
    ready: Prepared,
    features: dict[str, Feature],
    keypoints: Keypoints,
    chosen: NDArray[np.intp],
    params: DriftParams,
    seed: int,
) -> dict[str, Any]:
    """Judge a window, and compare what is expected with what is true.

    Args:
        ready: the validation side.
        features: of the whole pool, a unit for each image.
        keypoints: of the whole pool.
        chosen: the images of the window.
        params: rules.
        seed: of all draws.
    """
    place = np.full(1 + max(int(chosen.max()), int(max(f.units.max(initial=0) for f in features.values()))), -1)
    place[chosen] = np.arange(len(chosen))
    window = {name: _pick(feature, place) for name, feature in features.items()}
    comparison = compare(
        ready.features,
        window,
        len(set(ready.units)),
        len(chosen),
        alpha=params.alpha,
        effect=params.effect,
        seed=seed,
    )
    mine = place[keypoints.units] >= 0
    numbers = place[keypoints.units[mine]]
    shown = Keypoints(keypoints.columns[mine], keypoints.kinds[mine], numbers, numbers, keypoints.close[mine])
    assert ready.learnt is not None
    expected = expect(ready.learnt, shown, most_separable=1.0, most_outside=1.0, seed=seed)
    kept_back = (expected.separable or 0.0) > params.separable or expected.outside > params.outside
    reliability = ready.learnt.reliability
    return {
        "kind": to_kind(comparison),
        "clear": sorted({item.name for item in comparison.clear()}),
        "separable": expected.separable,
        "outside": expected.outside,
        "kept_back": kept_back or expected.share is None,
        "expected": expected.share,
        "low": expected.low,
        "high": expected.high,
        "true": float(shown.close.mean()) if len(shown.close) else None,
        "shown": len(shown.close),
        "found": float(window["count"].values.mean()),
        "validation": reliability.observed,
        "validation_error": reliability.error,
        "method": reliability.method,
    }


def _pick(feature: Feature, place: NDArray[np.intp]) -> Feature:
    mine = place[feature.units] >= 0
    return Feature(feature.name, feature.title, feature.family, feature.values[mine], place[feature.units[mine]])


def print_table(records: Records) -> None:
    same = [values for _, values in records.of("same")]
    if same:
        alarms = sum(values["kind"] == "drift" for values in same)
        bounds = binomtest(alarms, len(same)).proportion_ci(0.95, method="exact")
        print(
            f"false alarms: {alarms} of {len(same)} ({alarms / len(same):.1%}; exact 95 % bounds {bounds.low:.1%} to"
            f" {bounds.high:.1%}); images differ: {sum(values['kind'] == 'images differ' for values in same)}"
        )
    print("| images | strength | drift | images differ | objects | expected | true | off by | kept back | inside |")
    print(f"|{' --- |' * 2}{' ---: |' * 8}")
    groups = [("same", 0.0)] + [(kind, strength) for kind, values in STRENGTHS.items() for strength in values]
    for kind, strength in groups:
        mine = [values for _, values in records.of(kind) if values["strength"] == strength]
        if mine:
            print(_line(kind, strength, mine))


def _line(kind: str, strength: float, mine: list[dict[str, Any]]) -> str:
    given = [values for values in mine if not values["kept_back"]]
    known = [values for values in mine if values["true"] is not None and values["expected"] is not None]
    inside = sum(values["low"] <= values["true"] <= values["high"] for values in given)
    cells = [
        kind,
        f"{strength:g} {MEANING[kind]}" if kind in MEANING else "",
        *(f"{sum(values['kind'] == name for values in mine)} of {len(mine)}" for name in ("drift", "images differ")),
        f"{np.mean([values['found'] for values in mine]):.2f}",
        f"{np.mean([values['expected'] for values in known]):.3f}" if known else "–",
        f"{np.mean([values['true'] for values in known]):.3f}" if known else "–",
        f"{np.mean([abs(values['expected'] - values['true']) for values in known]):.3f}" if known else "–",
        f"{len(mine) - len(given)} of {len(mine)}",
        f"{inside} of {len(given)}" if given else "–",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
