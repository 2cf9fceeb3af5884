"""The description of a run in MLflow: what it is, what came of it, and where the pages are that say more."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from tasks.tracking.client import MODEL_TRAINING
from tasks.tracking.figures import HEADLINES, SPLITS, VALIDATE
from tasks.tracking.tags import (
    CHAMPION,
    DATA,
    HEADLINE,
    JUDGED_AGAINST,
    MACHINE,
    NOTE,
    PARENT,
    REASON,
    REGISTERED,
    STAGE,
    START,
)

CONTENT = "mlflow.note.content"
REPORTS = {
    "validate": (("how good the model is", "report.html"), ("how it was trained", "training.html")),
    "export": (("the exports and their proofs", "report.html"),),
}
"""Pages of a child run, below ``reports/<stage>`` of its artifacts."""

_TITLES = {
    "oks_AP": "OKS AP",
    "oks_AP50": "OKS AP50",
    "within_0.1_diagonals": "close keypoints",
    "detected": "objects found",
}
_WORDS = {
    "RUNNING": "It is running",
    "FINISHED": "It finished",
    "FAILED": "It failed",
    "KILLED": "It was stopped",
    "SCHEDULED": "It has not begun",
}
_MOST = 4900
_GAP = "&emsp; | "
"""Between columns, which MLflow's pages put without any space beside each other."""


def describe(client: Any, run_id: str) -> None:
    """Write the description of a run, and that of the training that it belongs to.

    A description that a person has changed stays.
    """
    run = client.get_run(run_id)
    training = run
    parent = run.data.tags.get(PARENT)
    if parent and run.data.tags.get(STAGE):  # a training that has a parent is a trial of a sweep
        training = client.get_run(parent)
        _write(client, run, compose_child(run, training))
    which = f"tags.`{PARENT}` = '{training.info.run_id}'"
    order = ["attributes.start_time DESC"]
    children = client.search_runs([training.info.experiment_id], filter_string=which, order_by=order)
    _write(client, training, compose_training(training, children))


def _write(client: Any, run: Any, text: str) -> None:
    before, by_keypipe = run.data.tags.get(CONTENT, ""), run.data.tags.get(NOTE, "")
    if before != text and (not before or _hash(before) == by_keypipe):
        client.set_tag(run.info.run_id, NOTE, _hash(text))
        client.set_tag(run.info.run_id, CONTENT, text)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def compose_training(run: Any, children: Sequence[Any]) -> str:
    """Return the description of a training in Markdown.

    Args:
        run: as MLflow has it.
        children: its child runs, newest first.
    """
    newest = {child.data.tags.get(STAGE, ""): child for child in reversed(children) if child.info.status == "FINISHED"}
    tags, params = run.data.tags, run.data.params
    parts = [
        f"**A training of `{params.get('train.model', 'a YOLO pose network')}` for keypoints**, by keypipe"
        f" (`{tags.get('mlflow.source.name', 'python -m tasks.train')}`), started from"
        f" {tags.get(START, 'weights that were not recorded')}.",
        _tell_end(run),
        _tabulate(run, newest.get(VALIDATE)),
        _link_reports(newest),
        _tell_use(tags),
        _tell_origin(run),
    ]
    return "\n\n".join(filter(None, parts))[:_MOST]


def compose_child(run: Any, training: Any) -> str:
    """Return the description of what was measured, exported or registered of a training, in Markdown."""
    stage = run.data.tags.get(STAGE, "")
    what = {
        "validate": "What was measured of",
        "export": "What was exported of",
        "register": "The registered model of",
    }.get(stage, f"{stage} of")
    name = training.info.run_name or training.info.run_id
    parts = [
        f"**{what} [{name}]({_page(training)})**, by keypipe (`python -m tasks.{stage}`).",
        _tell_end(run),
        _link_reports({stage: run}) if run.info.status == "FINISHED" else "",
    ]
    return "\n\n".join(filter(None, parts))[:_MOST]


def _tell_end(run: Any) -> str:
    why = run.data.tags.get(HEADLINE) if run.info.status == "FINISHED" else run.data.tags.get(REASON)
    said = " ".join(f"{_WORDS.get(run.info.status, run.info.status)}{f': {why}' if why else ''}".split())
    return f"{said[:1000]}{'' if said.endswith(('.', '!', '?')) else '.'}"


def _tabulate(run: Any, measured: Any) -> str:
    """Return the headline figures of each split, with the intervals that were measured beside them."""
    figures = run.data.metrics
    splits = [split for split in reversed(SPLITS) if any(name.startswith(f"{split}_coco/") for name in figures)]
    if not splits:
        return ""
    bounds = measured.data.metrics if measured is not None else {}

    def cell(split: str, figure: str) -> str:
        value = figures.get(f"{split}_coco/{figure}")
        low, high = (bounds.get(f"{split}_interval/{figure}_{end}") for end in ("low", "high"))
        if value is None:
            return "not measured"
        return f"{value:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else "")

    rows = [[_TITLES[figure], *(cell(split, figure) for split in splits)] for figure in HEADLINES]
    lines = [["", *(f"on {split}" for split in splits)], ["---"] * (len(splits) + 1), *rows]
    return "\n".join(f"| {_GAP.join(line) if line is not lines[1] else ' | '.join(line)} |" for line in lines)


def _link_reports(runs: dict[str, Any]) -> str:
    links = [
        f"[{title}]({_page(runs[stage], f'/artifacts/reports/{stage}/{file}')})"
        for stage, pages in REPORTS.items()
        if stage in runs
        for title, file in pages
    ]
    return f"Pages: {', '.join(links)}." if links else ""


def _page(run: Any, rest: str = "") -> str:
    """Return the way to a run's page from any other page of the same server."""
    return f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}{rest}?{MODEL_TRAINING}"


def _tell_use(tags: dict[str, str]) -> str:
    sentences = []
    if version := tags.get(REGISTERED):
        sentences.append(f"Registered as {version}")
    if against := tags.get(JUDGED_AGAINST):
        sentences.append(f"the gate compared it with {against}: {tags.get('keypipe.gate.outcome', 'no verdict')}")
    if champion := tags.get(CHAMPION):
        sentences.append(champion)
    return f"{'; '.join(sentences)}." if sentences else ""


def _tell_origin(run: Any) -> str:
    tags = run.data.tags
    commit = tags.get("keypipe.git_commit", "none")
    changed = " with changes that were not committed" if tags.get("keypipe.git_dirty") == "true" else ""
    lines = [
        f"- Data: `data/raw` as DVC's `{tags[DATA]}`" if tags.get(DATA) else "",
        f"- Code: commit `{commit[:12]}`{changed}" if commit != "none" else "- Code: outside git",
        f"- Machine: {tags[MACHINE]}" if tags.get(MACHINE) else "",
        f"- Made again by `keypipe reproduce {run.info.run_id[:8]}`",
    ]
    return "\n".join(filter(None, lines))
