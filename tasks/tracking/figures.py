"""Figures in MLflow: which ones a training shows, what data they were measured on, and which model they are of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tasks.tracking.outbox import Metrics, Split
from tasks.tracking.tags import PARENT, STAGE
from tasks.workspace.places import ANNOTATIONS

SPLITS = ("val", "test")
HEADLINES = ("oks_AP", "oks_AP50", "within_0.1_diagonals", "detected")
"""Figures of a split that a training's own page shows; all others are on the page of the run that measured them."""
VALIDATE = "validate"


def choose_headlines(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the figures that a training shows, those of each split, of all that were measured of it."""
    names = [f"{split}_coco/{figure}" for split in SPLITS for figure in HEADLINES]
    return {name: metrics[name] for name in names if name in metrics}


def describe_splits(root: Path, names: Iterable[str]) -> dict[str, Split]:
    """Return the splits that figures were measured on, going by their names; one whose file is gone is left out."""
    begun = {name.partition("_coco/")[0] for name in names if "_coco/" in name}
    found: dict[str, Split] = {}
    for split in (split for split in SPLITS if split in begun):
        path = root / ANNOTATIONS / f"{split}.json"
        if path.exists():
            content = path.read_bytes()
            held = msgspec.json.decode(content, type=_Held)
            md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
            found[split] = Split(md5, len(held.images), len(held.annotations))
    return found


class _Held(msgspec.Struct):
    images: list[msgspec.Raw] = []
    annotations: list[msgspec.Raw] = []


def log_figures(client: Any, run_id: str, item: Metrics) -> None:
    """Log figures, with the data that they were measured on; those of a training are its model's as well."""
    from mlflow.entities import Metric

    model = None
    if item.splits:
        client.log_inputs(run_id, [_to_dataset(split, about) for split, about in item.splits.items()])
        model = _find_model(client, run_id)
    metrics = [
        Metric(name, value, item.time, item.step, model_id=model, **_measured_on(name, item.splits))
        for name, value in item.figures.items()
    ]
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000])


def link_figures(client: Any, training: str, model: str) -> None:
    """Say of a new model what was measured last of its training, and on which data."""
    from mlflow.entities import Metric

    run = client.get_run(training)
    which = f"tags.`{PARENT}` = '{training}' and tags.`{STAGE}` = '{VALIDATE}' and attributes.status = 'FINISHED'"
    order = ["attributes.start_time DESC"]
    measured = client.search_runs([run.info.experiment_id], filter_string=which, order_by=order, max_results=1)
    if not measured:
        return
    inputs = measured[0].inputs.dataset_inputs if measured[0].inputs else []
    data = {name: item.dataset for item in inputs for name in SPLITS if item.dataset.name == _name(name)}
    metrics = []
    for name in choose_headlines(run.data.metrics):
        last = client.get_metric_history(training, name)[-1]  # told again with its own time, which MLflow takes as one
        found = data.get(name.partition("_")[0])
        on = {"dataset_name": found.name, "dataset_digest": found.digest} if found else {}
        metrics.append(Metric(name, last.value, last.timestamp, last.step, model_id=model, **on))
    client.log_batch(training, metrics=metrics)


def _find_model(client: Any, run_id: str) -> str | None:
    """Return the id of the newest model that came of a training; None where there is none yet."""
    experiment = client.get_run(run_id).info.experiment_id
    order = [{"field_name": "creation_timestamp", "ascending": False}]
    found = client.search_logged_models(
        [experiment], filter_string=f"source_run_id = '{run_id}'", order_by=order, max_results=1
    )
    return found[0].model_id if found else None


def _name(split: str) -> str:
    return f"{split} split"


def _measured_on(name: str, splits: Mapping[str, Split]) -> dict[str, str]:
    split = splits.get(name.partition("_")[0])
    return {"dataset_name": _name(name.partition("_")[0]), "dataset_digest": split.md5} if split else {}


def _to_dataset(split: str, about: Split) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = {"uri": (ANNOTATIONS / f"{split}.json").as_posix(), "dvc_md5": about.md5}
    dataset = Dataset(
        name=_name(split),
        digest=about.md5,
        source_type="local",
        source=msgspec.json.encode(source).decode(),
        profile=msgspec.json.encode({"images": about.images, "objects": about.objects}).decode(),
    )
    context = {"val": "validation", "test": "testing"}[split]
    return DatasetInput(dataset, [InputTag("mlflow.data.context", context)])
