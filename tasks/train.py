"""Stage train: a YOLO-pose training whose results move into place only when whole."""

from __future__ import annotations

import math
import os
import shutil
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ConfigDict, Field, field_validator

from keypipe import __version__
from keypipe.dataset.coco import CUT, DEPTH, CocoFile
from keypipe.dataset.yolo import view_names
from keypipe.errors import ConfigError
from keypipe.keypoints.skeleton import Schema, schema_to_mapping
from tasks.engine.door.training import FITNESS, LEARNS, Batch, Epoch, Start, Trained, TrainJob, engine
from tasks.grading import preflight
from tasks.grading.augmentation import DEFAULT_AUGMENTATION, Augmentation, StrengthCourse
from tasks.grading.epochs import FIGURES, MEAN, make_scorer
from tasks.grading.loss_sigma import DEFAULT_LOSS_SIGMA, LossSigma, SigmaCourse
from tasks.grading.rules import GradingParams, to_grading
from tasks.pages.preflight import draw_batch
from tasks.tracking import runs as tracking
from tasks.tracking.machine import machine_type
from tasks.versions import snapshots
from tasks.versions.git_state import git_state
from tasks.versions.raw import raw_version
from tasks.versions.stages.lockfile import locked_fingerprint
from tasks.versions.stages.state import stage_fingerprint
from tasks.versions.weights import check_kept
from tasks.workspace import params as read
from tasks.workspace.dataset import read_depth, read_schema, read_split, refresh_view
from tasks.workspace.models import BATCHES, FORMAT, LICENSE, Summary, TrainingRecord, decode_figures
from tasks.workspace.places import (
    BEST,
    DATA_YAML,
    EPOCHS,
    LAST,
    LOCK,
    MODELS,
    PREFLIGHT_FACTS,
    PREFLIGHT_PICTURE,
    PROGRESS,
    RECORD,
    TIMINGS,
    TRAINING,
    VIEW_YAML,
)
from tasks.workspace.program import replacing, run_program, say, write_json
from tasks.workspace.scratch import remove

PROGRESS_FILE = "state.json"

_OWN_KEYS = {
    "model", "loss_sigma", "augmentation", "paste", "average_last", "best_by", "preflight", "new_head", "symmetric",
}  # fmt: skip
_LEARNT_BOXES = 0.5
_LEARNT_KEYPOINTS = 0.1
_CURVES = ("results.csv", "args.yaml")
BEST_BY = (*FIGURES, FITNESS)
"""Values of ``train.best_by``: keypipe's figures, and Ultralytics' own mixture of box and pose AP."""


class TrainParams(read.Section):
    """The section ``train``: keypipe's own keys, and any of Ultralytics' train arguments."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    model: str = Field(default="yolov8n-pose.yaml", min_length=1)
    loss_sigma: LossSigma = DEFAULT_LOSS_SIGMA
    augmentation: Augmentation = DEFAULT_AUGMENTATION
    paste: float = Field(default=0.0, ge=0, le=1, description="share of the images that get an object of another one")
    average_last: int = Field(default=0, ge=0, le=100, description="epochs whose weights are averaged at the end")
    best_by: str = Field(default="oks_AP", description="figure of the validation split that the best epoch has most of")
    preflight: bool = Field(default=True, description="look at the first batches before anything is trained")
    new_head: bool = False
    symmetric: bool = Field(default=False, description="mirror images although no keypoint has a left/right partner")

    @field_validator("best_by")
    @classmethod
    def _is_a_figure(cls, value: str) -> str:
        if value not in BEST_BY:
            raise ValueError(f"expected one of {', '.join(BEST_BY)}")
        return value

    @property
    def arguments(self) -> dict[str, Any]:
        """Ultralytics' arguments."""
        return dict(self.model_extra or {})

    @classmethod
    def find_problems(cls, values: Mapping[str, Any]) -> dict[str, str]:
        """Refuse arguments that Ultralytics does not know, that keypipe sets itself, or of another type."""
        known, reserved = engine().read_train_arguments(), engine().RESERVED
        problems: dict[str, str] = {}
        for key, value in values.items():
            if key in _OWN_KEYS:
                continue
            if key in reserved:
                problems[key] = f"not a parameter of a training: {reserved[key]}"
            elif key not in known:
                problems[key] = f"unknown parameter{_suggest(key, [*known, *_OWN_KEYS])}"
            elif key == "nms" and value:
                problems[key] = "expected false, or nothing: suppression is no part of what is trained"
            elif not _fits(value, known[key]):
                problems[key] = f"expected a value like {known[key]!r}, got {value!r}"
        return problems


def _suggest(key: str, known: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(key, known, n=1)
    return f" (did you mean {close[0]}?)" if close else " (Ultralytics has no such train argument)"


def _fits(value: Any, default: Any) -> bool:
    """Tell whether a value has the kind of type of Ultralytics' default; it checks ranges itself."""
    if default is None or value is None:
        return True
    if isinstance(default, bool):
        return isinstance(value, bool | str | int)
    if isinstance(default, int | float):
        return isinstance(value, int | float | list | tuple) and not isinstance(value, bool)
    return isinstance(value, type(default))


def run(
    params: TrainParams,
    grading: GradingParams,
    seed: int,
    local: read.Local,
    root: Path,
    record: TrainingRecord,
) -> None:
    """Train on the split dataset.

    Args:
        params: the stage's parameters.
        grading: how an epoch's predictions are evaluated.
        seed: of everything random.
        local: settings of this machine.
        root: the workspace.
        record: what identifies the run; its epochs are filled in.

    Raises:
        PoseError: weights, arguments or the dataset cannot be used, neither DVC nor git keeps what the training starts
            from, or MLflow's address is wrong.
    """
    check_kept(root, {"model": params.model, **params.arguments})
    engine().configure(root, local.threads)
    refresh_view(root)
    schema = read_schema(root)
    # The test split is no part of what a training depends on.
    splits = {split: read_split(root, split) for split in ("train", "val")}
    record.counts = count_contents(splits)
    scratch = _scratch(root, record.fingerprint)
    job = _to_job(params, grading, seed, local, schema, splits, scratch, root)
    witness = Witness(params, schema, scratch, root, record)
    on_preflight = witness.on_preflight if params.preflight else None
    job = msgspec.structs.replace(
        job,
        on_batches=witness.on_batches,
        on_start=witness.on_start,
        on_epoch=witness.on_epoch,
        on_preflight=on_preflight,
    )
    try:
        with tracking.ending(witness.live):
            headline, not_repeatable = witness.finish(engine().train(job))
    finally:
        (root / PROGRESS).unlink(missing_ok=True)
    if "DVC_STAGE" not in os.environ:  # else DVC takes the results next, and may be killed before it has
        remove(root / TRAINING)
    if not_repeatable:
        say(f"train: another run with the same data and parameters may differ: {not_repeatable}")
    say(f"train: {headline}")


def _to_job(
    params: TrainParams,
    grading: GradingParams,
    seed: int,
    local: read.Local,
    schema: Schema,
    splits: Mapping[str, CocoFile],
    scratch: Path,
    root: Path,
) -> TrainJob:
    """Say what is trained; who is told of it is added by ``run``."""
    return TrainJob(
        model=_resolve_file(params.model, root),
        schema=schema,
        data=root.resolve() / VIEW_YAML,
        arguments={**params.arguments, **_fixed(params, seed, schema, root)},
        device=local.device,
        workers=local.workers,
        cache=local.cache,
        scratch=scratch.resolve(),
        instances={split: count_instances(file) for split, file in splits.items()},
        loss_sigma=SigmaCourse(params.loss_sigma, len(schema.slots)),
        best_by=params.best_by,
        score=make_scorer(to_grading(grading, schema, root), grading.conf, splits["val"], schema),
        new_head=params.new_head,
        augmentation=StrengthCourse(params.augmentation),
        paste=params.paste,
        batches=parse_batches(os.environ.get(BATCHES, "")),
        average_last=params.average_last,
    )


class Witness:
    """Tells, records and keeps what a training says of itself.

    Attributes:
        live: its MLflow run.
    """

    def __init__(self, params: TrainParams, schema: Schema, scratch: Path, root: Path, record: TrainingRecord) -> None:
        """Open the training's MLflow run, or go on with the one of a killed training.

        Raises:
            PoseError: MLflow's address or the experiment is wrong.
        """
        self._params, self._schema, self._scratch, self._root, self._record = params, schema, scratch, root, record
        self._progress = _read_progress(scratch)
        self.live = tracking.start_training(root, record, self._progress.run_id or None)
        self._progress.run_id = self.live.run_id
        self.live.set_tags(snapshots.take(root, self._progress.run_id, record.fingerprint))
        self._save()

    def _save(self) -> None:
        write_json(self._scratch / PROGRESS_FILE, self._progress)

    def on_start(self, start: Start) -> None:
        """Tell and record what the training starts from."""
        tags = {tracking.START: self._params.model if start.weights else "random weights"}
        if start.weights:
            tags |= {tracking.START_WEIGHTS: start.weights, tracking.START_KEYPOINTS: start.keypoints}
            say(f"train: starts from the weights {self._params.model}; keypoints: {start.keypoints}")
        if start.teacher:
            tags |= {tracking.START_TEACHER: start.teacher}
        self._record.tags |= tags
        self.live.set_tags(tags)

    def on_batches(self, batches: Sequence[Batch], why: str) -> None:
        """Tell and record that the batch is not of the size that the parameters say."""
        told = describe_batches(batches)
        self._record.tags[tracking.BATCHES] = told
        self.live.set_tags({tracking.BATCHES: told})
        say(
            f"warning: {why}; going on with {batches[-1].size}"
            if why
            else f"train: a batch of {told}, for want of memory"
        )

    def on_epoch(self, epoch: Epoch) -> None:
        """Take in an epoch."""
        epoch, odd = _without_odd(epoch)
        if odd:
            say(f"warning: epoch {epoch.number}: not a number, and not recorded: {', '.join(odd)}")
        say(_epoch_line(epoch))
        # An epoch that a kill cut off after its record is trained once more, with the same figures.
        if self._progress.epochs[epoch.number - 1 : epoch.number] != [epoch.metrics]:
            self.live.log_metrics(epoch.metrics, epoch.number)
        self._progress.add(epoch, odd)
        self._save()
        state = {"stage": "train", "done": epoch.number, "total": epoch.total, "unit": "epochs"}
        write_json(self._root / PROGRESS, state)

    def on_preflight(self, found: preflight.Preflight | None) -> None:
        """Assess, tell and keep what the pre-flight found.

        Raises:
            PoseError: nothing would be learnt.
        """
        if found is None:
            say("pre-flight: left out, memory does not hold a batch and what is measured beside it")
        else:
            preflight.assess(found.facts, self._params.arguments)
            for line in preflight.describe(found.facts, found.times):
                say(line)
            picture = self._scratch / PREFLIGHT_PICTURE.name
            picture.write_bytes(draw_batch(found.batch, self._schema, found.later))
            write_json(self._scratch / PREFLIGHT_FACTS.name, found.facts)
            self.live.log_files(picture, MODELS.name)  # to be looked at while the training goes on
            say(f"pre-flight: the batch as a picture: {picture.relative_to(self._root)}")
        self._progress.preflight = found.times if found else None
        self._save()

    def finish(self, trained: Trained) -> tuple[str, str | None]:
        """Put the results of the training into place, and record them.

        Returns:
            The headline, and why another run with the same data and parameters may differ.
        """
        self._record.epochs = self._progress.epochs
        notes = warn(self._record.epochs, self._progress.odd, trained.batches)
        for note in notes:
            say(f"warning: {note}")
        description = {"schema": schema_to_mapping(self._schema), "license": LICENSE, "version": __version__}
        if (depth := read_depth(self._root)) != CUT:
            description[DEPTH] = depth
        run_id = self.live.run_id
        if run_id != self._progress.run_id:  # the server was away when it began
            snapshots.rename(self._root, self._progress.run_id, run_id)
            self._progress.run_id = run_id
        summary = _summarise(self._record, run_id, trained, self._params.best_by, notes)
        with replacing(self._root, MODELS) as models:
            _collect(models, trained, self._scratch, summary, description, self._progress)
        reason = trained.not_repeatable
        tags = {tracking.HEADLINE: summary.headline, "license": LICENSE}
        tags["keypipe.repeatable"] = f"no: {reason}" if reason else "yes"
        if notes:
            tags["keypipe.warning"] = "; ".join(notes)
        self._progress.ended = True
        self._save()
        self.live.relax()
        self.live.set_tags(tags)
        self.live.log_files(self._root / MODELS, "models")
        return summary.headline, reason


class Progress(msgspec.Struct):
    """What a training has recorded, kept beside the engine's own state.

    Attributes:
        run_id: its MLflow run; empty before there is one.
        epochs: figures of each epoch, by their MLflow names.
        odd: names of the figures of each epoch that were not a number.
        seconds: wall time of each epoch.
        state_seconds: what keeping the exact state took, for each epoch but the last.
        preflight: what the pre-flight took and expected; None without one.
        ended: the results are in place.
    """

    run_id: str = ""
    epochs: list[dict[str, float]] = []
    odd: list[list[str]] = []
    seconds: list[float] = []
    state_seconds: list[float] = []
    preflight: preflight.Times | None = None
    ended: bool = False

    def add(self, epoch: Epoch, odd: list[str]) -> None:
        """Add an epoch, in place of whatever was known of it and of later ones."""
        del self.epochs[epoch.number - 1 :]
        self.epochs.append(epoch.metrics)
        del self.odd[epoch.number - 1 :]
        self.odd.append(odd)
        del self.seconds[epoch.number - 1 :]
        self.seconds.append(epoch.seconds)
        if epoch.number > 1:
            del self.state_seconds[epoch.number - 2 :]
            self.state_seconds.append(epoch.state_seconds)


def _fixed(params: TrainParams, seed: int, schema: Schema, root: Path) -> dict[str, Any]:
    fixed: dict[str, Any] = {"seed": seed, "plots": params.arguments.get("plots", False)}
    if not schema.has_pairs and not params.symmetric:
        # Without pairs a mirrored object keeps its keypoint names, which is true of symmetric objects only.
        fixed["fliplr"] = 0.0
    if teacher := params.arguments.get("distill_model"):
        fixed["distill_model"] = _resolve_file(teacher, root)
    return fixed


def _resolve_file(name: str, root: Path) -> str:
    """Return the path of a file of the workspace; other names are Ultralytics' own."""
    return str((root / name).resolve()) if (root / name).exists() else name


def _scratch(root: Path, fingerprint: str) -> Path:
    """Return the folder of this training; what other trainings left there is removed.

    The same training may have ended there. It goes on, to its results, unless ``dvc.lock`` has them: then it is to be
    made once more.
    """
    folder = root / TRAINING
    scratch = folder / fingerprint[:16]
    if (scratch / PROGRESS_FILE).exists() and (root / LOCK).exists():
        progress = decode_figures((scratch / PROGRESS_FILE).read_bytes(), Progress)
        if progress.ended and locked_fingerprint((root / LOCK).read_text(encoding="utf-8"), "train") == fingerprint:
            remove(scratch)
    if folder.exists():
        for other in folder.iterdir():
            if other != scratch:
                shutil.rmtree(other)
    scratch.mkdir(parents=True, exist_ok=True)
    return scratch


def _read_progress(scratch: Path) -> Progress:
    path = scratch / PROGRESS_FILE
    if not path.exists():
        return Progress()
    progress = decode_figures(path.read_bytes(), Progress)
    reached = engine().read_reached_epoch(scratch)
    if reached:
        say(f"train: going on with a training that was stopped after epoch {reached}")
    elif progress.epochs:
        say("train: a training was stopped whose state is damaged or of other packages; starting over in a new run")
        return Progress()
    return progress


def count_contents(splits: Mapping[str, CocoFile]) -> dict[str, int]:
    """Count images and objects of each split, by names such as ``train images``."""
    return {
        f"{split} {kind}": len(getattr(file, attribute))
        for split, file in splits.items()
        for kind, attribute in (("images", "images"), ("objects", "annotations"))
    }


def count_instances(file: CocoFile) -> dict[str, int]:
    """Count the objects of each image, by its name in the YOLO view."""
    names = view_names(image.file_name for image in file.images)
    by_id = {image.id: names[image.file_name] for image in file.images}
    counts = dict.fromkeys(by_id.values(), 0)
    for annotation in file.annotations:
        counts[by_id[annotation.image_id]] += 1
    return counts


def _without_odd(epoch: Epoch) -> tuple[Epoch, list[str]]:
    """Leave out what is not a number, which neither JSON nor a chart can hold; also return its names."""
    odd = [name for name, value in epoch.metrics.items() if not math.isfinite(value)]
    metrics = {name: value for name, value in epoch.metrics.items() if name not in odd}
    return msgspec.structs.replace(epoch, metrics=metrics), odd


def _epoch_line(epoch: Epoch) -> str:
    metrics = epoch.metrics
    losses = " ".join(
        f"{key.removeprefix('train/').removesuffix('_loss')} {value:.3f}"
        for key, value in metrics.items()
        if key.startswith("train/") and key.endswith("_loss")
    )
    box, pose = (metrics.get("val_ultralytics/box_mAP50", 0.0), metrics.get("val_ultralytics/pose_mAP50", 0.0))
    return (
        f"epoch {epoch.number}/{epoch.total}  {epoch.seconds:.1f} s  loss: {losses}"
        f"  val: box mAP50 {box:.3f}, pose mAP50 {pose:.3f}, OKS AP {metrics.get('val_epoch/oks_AP', 0.0):.3f}"
        + ("  best so far" if epoch.best == epoch.number else "")
    )


def parse_batches(text: str) -> tuple[Batch, ...]:
    """Parse sizes of the batch, such as ``1:16 12:8``: 16 at first, 8 from epoch 12 on.

    Raises:
        ConfigError: they are none.
    """
    try:
        return tuple(Batch(*map(int, part.split(":", 1))) for part in text.split())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{BATCHES}={text!r}: expected sizes of batches by epoch, such as `1:16 12:8`") from error


def describe_batches(batches: Sequence[Batch]) -> str:
    """Return sizes of the batch in words: ``8 from epoch 1``."""
    return ", ".join(f"{batch.size} from epoch {batch.epoch}" for batch in batches)


def warn(
    epochs: Sequence[Mapping[str, float]], odd: Sequence[Sequence[str]] = (), batches: Sequence[Batch] = ()
) -> list[str]:
    """Return warnings about a finished training.

    Args:
        epochs: metrics of each epoch, by their MLflow names.
        odd: names of those of each epoch that were not a number.
        batches: sizes of the batch where memory has forced others than ``train.batch``.
    """
    box = max((epoch.get("val_ultralytics/box_mAP50", 0.0) for epoch in epochs), default=0.0)
    pose = max((epoch.get("val_ultralytics/pose_mAP50", 0.0) for epoch in epochs), default=0.0)
    notes: list[str] = []
    if box > _LEARNT_BOXES and pose < _LEARNT_KEYPOINTS:
        notes.append(
            f"boxes are learnt (mAP50 {box:.2f}) and keypoints are not (mAP50 {pose:.2f}):"
            " look at keypoint order and left/right names, train longer, or start with a larger train.loss_sigma (from)"
        )
    if batches:
        notes.append(f"memory did not hold train.batch: it was trained with a batch of {describe_batches(batches)}")
    for name, count in Counter(name for names in odd for name in names).items():
        notes.append(f"{name} was not a number in {count} of {len(epochs)} epochs; on a GPU try train.amp: false")
    return notes


def _summarise(record: TrainingRecord, run_id: str, trained: Trained, best_by: str, notes: list[str]) -> Summary:
    epochs = record.epochs
    if trained.averaged:
        value = epochs[-1].get(f"{MEAN}/{best_by}", 0.0)
        best = f"the mean of the last {trained.averaged} is the best"
    else:
        name = "val_ultralytics/fitness" if best_by == FITNESS else f"val_epoch/{best_by}"
        value = epochs[trained.best_epoch - 1].get(name, 0.0)
        best = f"best {trained.best_epoch}"
    batches = [(batch.epoch, batch.size) for batch in trained.batches]
    headline = f"{len(epochs)} epochs, {best} by {best_by} {value:.3f} on val"
    return Summary(
        headline, run_id, trained.best_epoch, notes, record, best_by, value, LEARNS, FORMAT, batches, trained.averaged
    )


def _collect(
    models: Path,
    trained: Trained,
    scratch: Path,
    summary: Summary,
    description: Mapping[str, Any],
    progress: Progress,
) -> None:
    models.mkdir()
    engine().write_checkpoint(trained.best, models / BEST.name, description)
    engine().write_checkpoint(trained.last, models / LAST.name, description)
    for name in _CURVES:
        if (trained.folder / name).exists():
            shutil.copy2(trained.folder / name, models / name)
    for made in (scratch / PREFLIGHT_FACTS.name, scratch / PREFLIGHT_PICTURE.name):
        if made.exists():
            shutil.copy2(made, models / made.name)
    for picture in sorted([*trained.folder.glob("*.png"), *trained.folder.glob("*.jpg")]):
        shutil.copy2(picture, models / picture.name)
    write_json(models / RECORD.name, summary)
    write_json(models / EPOCHS.name, summary.record.epochs)
    timings = {
        "seconds": sum(progress.seconds),
        "seconds_per_epoch": progress.seconds,
        "state_seconds_per_epoch": progress.state_seconds,
        "preflight": progress.preflight,
    }
    write_json(models / TIMINGS.name, timings)


def describe(root: Path, document: Mapping[str, Any], local: read.Local) -> TrainingRecord:
    """Gather what identifies the training of this workspace as it is now."""
    git = git_state(root)
    params = flatten({key: document[key] for key in document})
    params |= {f"local.{key}": str(value) for key, value in local.model_dump().items()}
    tags = {
        "keypipe.git_commit": git.commit or "none",
        "keypipe.git_dirty": str(git.dirty).lower(),
        "keypipe.workspace": root.resolve().name,
        tracking.MACHINE: machine_type(),
        "mlflow.source.name": "python -m tasks.train",
        "mlflow.source.type": "LOCAL",
    }
    if git.commit:
        tags["mlflow.source.git.commit"] = git.commit
    for stage in ("convert", "split"):
        tags[f"keypipe.fingerprint.{stage}"] = stage_fingerprint(root, stage)
    fingerprint = stage_fingerprint(root, "train")
    return TrainingRecord(fingerprint, params, tags, raw_version(root) or "", {})


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested parameters to ``section.key`` -> text."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = str(value)
    return flat


def _stop(signum: int, _frame: Any) -> None:
    raise SystemExit(128 + signum)


def main(root: Path) -> None:
    """Run the stage with the workspace's parameters."""
    signal.signal(signal.SIGTERM, _stop)  # so that the MLflow run is ended as KILLED
    document = read.read_params(root)
    params = read.load_section(document, "train", TrainParams)
    grading = read.load_section(document, "validate", GradingParams)
    if not (root / DATA_YAML).exists():
        raise ConfigError(f"{DATA_YAML}: not there; run the split stage first")
    local = read.read_local(root)
    run(params, grading, read.load_seed(document), local, root, describe(root, document, local))


if __name__ == "__main__":
    run_program("train", main)
