"""Ultralytics' pose trainer, held to what keypipe promises: runs that repeat, a declared best, no wasted work."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from copy import copy, deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from ultralytics.data.utils import get_split_fraction
from ultralytics.models.yolo.pose import PoseTrainer
from ultralytics.utils import colorstr
from ultralytics.utils.torch_utils import ModelEMA, qat_state, strip_optimizer, strip_qat, unwrap_model

from keypipe.errors import ModelError
from tasks.engine.recording import RecordingValidator
from tasks.engine.training import measure as preflight
from tasks.engine.training import memory, repeat
from tasks.engine.training.average import LastEpochs
from tasks.engine.training.job import FITNESS, STATE_FILE, Epoch, TrainJob, check_loaded, metric_name
from tasks.engine.training.transfer import Transfer, adopt_keypoints, is_narrower
from tasks.engine.weights import read_checkpoint
from tasks.grading.epochs import MEAN
from tasks.workspace.access import is_memory_end

VALIDATION_BATCH = 16
"""Images a batch in validation. Images of a batch share a padded shape, so that figures depend on it; this is the
default of ``validate.batch``."""

_CACHE_SHARE = 0.25
_NAN_ATTEMPTS = 3
_NO_MORE_RETRIES = 3
"""Of Ultralytics, after memory has ended."""


class Trainer(PoseTrainer):  # type: ignore[misc]
    """Trains one ``TrainJob``.

    Attributes:
        job: what to train.
        transfer: which keypoints are taken over by name from the weights that training starts from.
        state_path: the exact state at the end of the last whole epoch.
        figures: what the last validation gave, by the names that ``train.best_by`` takes.
        best_number: the best epoch so far, from 1; 0 before any.
        averaged: of how many epochs the best weights are the mean; 0: they are those of the best epoch.
    """

    best_fitness: float | None
    model: Any
    start_epoch: int
    wdir: Path

    def __init__(
        self, job: TrainJob, transfer: Transfer | None, overrides: dict[str, Any], _callbacks: Any = None
    ) -> None:
        self.job = job
        self.transfer = transfer
        self.state_path = job.scratch / STATE_FILE
        self.figures: dict[str, float] = {}
        self.best_number = 0
        self.averaged = 0
        self.state_seconds = 0.0
        self._state = repeat.load_state(self.state_path)
        self._rows: list[dict[str, float]] = []
        self._accumulate = 1
        self._batch = -1
        self._last_step = -1  # batch, counted from the start of the training, of the last optimizer step
        self._left_over: dict[str, torch.Tensor] = {}
        self._resumed = False
        self._catching_up = False
        self._batches = memory.read_batches(job.scratch, job.batches)
        reached = self._state["epoch"] + 1 if self._state is not None else 0
        size = memory.batch_of(self._batches, reached + 1) or (self._state or {}).get("batch_size")
        if size is not None:  # also where the engine has found the size by itself
            overrides = {**overrides, "batch": size}
        super().__init__(overrides=overrides, _callbacks=_callbacks)
        self._ended = LastEpochs(self.wdir, job.average_last)
        if job.workers is not None:  # Ultralytics sets 0 on the CPU, whatever it is told
            self.args.workers = job.workers
        for event, hook in (
            ("on_pretrain_routine_end", Trainer._note_attempt),
            ("on_pretrain_routine_end", Trainer._check_and_speed_up),
            ("on_pretrain_routine_end", Trainer._look_ahead),
            ("on_train_epoch_start", Trainer._start_epoch),
            ("on_train_batch_start", Trainer._start_batch),
            ("on_fit_epoch_end", Trainer._end_epoch),
        ):
            self.add_callback(event, hook)

    # What is trained, and on what

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
        """Build the network; classes of weights are taken over by name, by Ultralytics, and keypoints here."""
        model = super().get_model(cfg, weights, verbose)
        found = self.transfer if weights is not None else None
        if found is not None and (found.changes or is_narrower(model, weights)):
            adopt_keypoints(model, weights, found.places)
        return model

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Build a dataset: seeded by sample for training, Ultralytics' own for validation."""
        with self._caching(mode):
            if mode != "train":
                return super().build_dataset(img_path, mode, batch)
            args = self.args
            return repeat.SeededDataset(
                img_path=img_path,
                imgsz=args.imgsz,
                batch_size=batch,
                augment=True,
                hyp=args,
                rect=args.rect,
                cache=args.cache or None,
                single_cls=args.single_cls or False,
                stride=self.stride,
                pad=0.0,
                prefix=colorstr("train: "),
                task=args.task,
                classes=args.classes,
                data=self.data,
                fraction=get_split_fraction(args.fraction, "train"),
                paste=self.job.paste,
            )

    @contextmanager
    def _caching(self, split: str) -> Iterator[None]:
        """Keep decoded images in memory where they take no more than a quarter of what is free, without a word."""
        given = self.args.cache
        if self.job.cache == "auto":
            size_bytes = len(self.job.instances[split]) * 3 * int(self.args.imgsz) ** 2
            self.args.cache = "ram" if size_bytes < _CACHE_SHARE * psutil.virtual_memory().available else False
        else:
            self.args.cache = self.job.cache
        try:
            with redirect_stdout(io.StringIO()):  # a progress bar, in a log
                yield
        finally:
            self.args.cache = given

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Build a loader; validation has batches of one size, whatever the training's."""
        return super().get_dataloader(dataset_path, VALIDATION_BATCH if mode == "val" else batch_size, rank, mode)

    def get_validator(self) -> RecordingValidator:
        """Return the validator, which keeps what is predicted."""
        return RecordingValidator(
            self.test_loader, save_dir=self.save_dir, args=copy(self.args), _callbacks=self.callbacks
        )

    def _check_and_speed_up(self) -> None:
        for split, loader in (("train", self.train_loader), ("val", self.test_loader)):
            check_loaded(split, loader.dataset.labels, self.job.instances[split])
        if self.device.type == "cpu":  # measured on two cores: 0.58 s a step instead of 0.67; wrong on MPS
            self.model.to(memory_format=torch.channels_last)
            self.ema.ema.to(memory_format=torch.channels_last)

    def _note_attempt(self) -> None:
        memory.note_attempt(self.job.scratch, self.batch_size)

    def _look_ahead(self) -> None:
        """Look at the first batches of a training that starts, with a copy of the network in its place."""
        if self.job.on_preflight is None or self._resumed:
            return
        model = self.model
        self.model, self.epoch = deepcopy(unwrap_model(model)), self.start_epoch
        try:
            self._set_loss_sigma()
            self._model_train()
            found = preflight.measure(self, self._key)
        except Exception as error:
            if not is_memory_end(error):
                raise
            found = None  # what it needs beside the training may be what is too much; the first epoch shows it
        finally:
            self.model = model
        self._clear_memory()
        self.job.on_preflight(found)

    # Where every epoch starts

    def _do_train(self) -> None:
        if self._state is not None and self._state["finished"]:  # killed before its results were in place
            self._setup_train()
            self.final_eval()
        else:
            super()._do_train()

    @property
    def _key(self) -> tuple[int, int, int]:
        return self.args.seed, self.epoch, self.nan_recovery_attempts

    @property
    def _strength(self) -> float:
        """How strongly images are changed in this epoch."""
        return self.job.augmentation.at(self.epoch, self.epochs)

    def _start_epoch(self) -> None:
        # Ultralytics would halve the batch in the middle of the first epoch, and nothing would repeat it.
        self._oom_retries = _NO_MORE_RETRIES
        repeat.seed_epoch(self.train_loader, *self._key, strength=self._strength)
        self._batch = -1
        self._set_loss_sigma()
        if self._resumed:  # until its first step, which may be due some epochs later
            self._catching_up, self._resumed = True, False
        parameters = dict(unwrap_model(self.model).named_parameters())
        for name, gradient in self._left_over.items():
            parameters[name].grad = gradient.to(parameters[name].device)
        self._left_over = {}

    def _set_loss_sigma(self) -> None:
        """Give the pose loss the sigmas of this epoch; validation's losses keep the last ones, to be comparable."""
        model = unwrap_model(self.model)
        if getattr(model, "criterion", None) is None:
            model.criterion = model.init_criterion()
        sigmas = self.job.loss_sigma.at(self.epoch, self.epochs)
        for current in find_sigmas(model.criterion):
            current.copy_(torch.as_tensor(sigmas, dtype=current.dtype))

    def _start_batch(self) -> None:
        self._batch += 1
        repeat.seed_batch(self._batch, *self._key)

    # Gradient accumulation across a kill: the loop counts batches since the last optimizer step in a variable of
    # its own, which starts at -1. It is made to ask after every batch until the step that is really due.

    @property
    def accumulate(self) -> int:
        """Batches to an optimizer step, as the loop is to see it."""
        return 1 if self._catching_up else self._accumulate

    @accumulate.setter
    def accumulate(self, value: int) -> None:
        self._accumulate = value

    def optimizer_step(self) -> None:
        """Step, unless the batches since the last step are fewer than they should be."""
        batch = self._batch + len(self.train_loader) * self.epoch
        if self._catching_up and batch - self._last_step < self._accumulate:
            return
        self._catching_up = False
        super().optimizer_step()
        self._last_step = batch

    # Which epoch is the best

    def validate(self) -> tuple[Any, Any]:
        """Validate the weights as they would be saved, and score them by ``train.best_by``.

        Returns:
            Ultralytics' figures, and the one that decides.
        """
        with half_precision(self.ema.ema):
            metrics = self.validator(self)
        self.figures = {FITNESS: float(metrics.pop(FITNESS)), **self.job.score(self.validator.rows)}
        fitness = self.figures.get(self.job.best_by, 0.0)
        if self.best_fitness is None or fitness >= self.best_fitness:  # of equals the later one: it saw more
            self.best_fitness = fitness
        return metrics, fitness

    def save_model(self) -> bool:
        """Keep the weights of a new best epoch; the rest is kept by ``_end_epoch``."""
        self._mend_averages()
        if self.fitness == self.best_fitness:
            self.best_number = self.epoch + 1
            self._write_weights(self._best_path(self.best_number))
        return True

    def _best_path(self, number: int) -> Path:
        return self.wdir / f"epoch-{number}.pt"

    @property
    def _mean_path(self) -> Path:
        return self.wdir / "mean.pt"

    def _measure_mean(self) -> dict[str, float]:
        """Measure the mean of the last epochs' weights on val, and keep it if no epoch is better.

        Returns:
            Its figures by their MLflow names; none where nothing is averaged.
        """
        averaged, state = self._ended.mean(self.epoch + 1)
        if not averaged:
            return {}
        own = self.ema.ema
        self.ema.ema = deepcopy(own)
        self.ema.ema.load_state_dict(state)
        try:
            with half_precision(self.ema.ema):
                metrics = self.validator(self)
            figures = {FITNESS: float(metrics.pop(FITNESS)), **self.job.score(self.validator.rows)}
            if self.best_fitness is None or figures.get(self.job.best_by, 0.0) >= self.best_fitness:
                self.averaged = averaged
                self._write_weights(self._mean_path)
        finally:
            self.ema.ema = own
        named = {metric_name(name).removeprefix("val_ultralytics/"): float(value) for name, value in metrics.items()}
        named = {name: value for name, value in named.items() if not name.startswith("val/")}
        return {f"{MEAN}/{name}": value for name, value in {**named, **figures}.items()}

    def _mend_averages(self) -> None:
        """Take averaged weights that are not finite from the model where it has recovered, as Ultralytics does."""
        model = unwrap_model(self.model).state_dict()
        for name, value in self.ema.ema.state_dict().items():
            if not torch.isfinite(value).all() and torch.isfinite(model[name]).all():
                value.copy_(model[name])

    def _write_weights(self, path: Path) -> None:
        model = deepcopy(self.ema.ema)
        model.criterion = None
        quantization = qat_state(model)
        strip_qat(model)
        model.half().to(memory_format=torch.contiguous_format)
        for value in model.state_dict().values():
            if value.is_floating_point():
                torch.nan_to_num_(value)
        checkpoint = {
            "epoch": self.epoch,
            "model": None,
            "ema": model,
            "modelopt": quantization,
            "train_args": vars(self.args),
            "train_metrics": {**self.metrics, **self.figures},
        }
        partial = path.with_suffix(".partial")
        torch.save(checkpoint, partial)
        partial.replace(path)

    # The end of an epoch, and of the training

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Keep a row of ``results.csv``, which is written at the end: a killed epoch has none."""
        self._rows.append({"epoch": self.epoch + 1, **metrics})

    def _end_epoch(self) -> None:
        losses = self.label_loss_items(self.tloss, prefix="train")
        metrics = {name: float(value) for name, value in {**losses, **self.metrics, **self.lr}.items()}
        metrics |= {f"metrics/{FITNESS}": self.figures[FITNESS]}
        metrics |= {f"val_epoch/{name}": value for name, value in self.figures.items() if name != FITNESS}
        metrics["train/loss_sigma"] = float(np.mean(self.job.loss_sigma.at(self.epoch, self.epochs)))
        if not self.job.augmentation.is_full:
            metrics["train/augmentation"] = self._strength
        self._ended.keep(self.epoch + 1, self.ema.ema.state_dict())
        if self.stop:
            metrics |= self._measure_mean()
        epoch = Epoch(
            number=self.epoch + 1,
            total=self.epochs,
            metrics={metric_name(name): value for name, value in metrics.items()},
            best=self.best_number,
            seconds=float(self.epoch_time),
            state_seconds=self.state_seconds,
        )
        # First the record, then the state: a kill in between repeats the epoch, and none is missing from the record.
        self.job.on_epoch(epoch)
        self.state_seconds = repeat.save_state(self.state_path, self._gather_state())
        for path in self.wdir.glob("epoch-*.pt"):
            if path != self._best_path(self.best_number):
                path.unlink()
        if not self.stop and memory.batch_of(self._batches, self.epoch + 2) not in (None, self.batch_size):
            raise memory.RebatchError

    def _gather_state(self) -> dict[str, Any]:
        model = unwrap_model(self.model)
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        stopper = {key: getattr(self.stopper, key) for key in ("best_fitness", "best_epoch", "possible_stop")}
        return {
            "epoch": self.epoch,
            "finished": bool(self.stop),
            "batch_size": self.batch_size,
            "model": model.state_dict(),
            "ema": self.ema.ema.state_dict(),
            "ema_updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "gradients": gradients,
            "last_step": self._last_step,
            "loss_updates": getattr(model.criterion, "updates", None),
            "best_fitness": self.best_fitness,
            "best_number": self.best_number,
            "averaged": self.averaged,
            "stopper": stopper,
            "rows": self._rows,
            "metrics": self.metrics,
            "figures": self.figures,
        }

    def resume_training(self, ckpt: Any) -> None:  # noqa: ARG002 - Ultralytics' checkpoint does not hold enough
        """Go on from the state that a killed training left."""
        if self._state is None:
            return
        state, self._state = self._state, None
        self._restore(state)
        unwrap_model(self.model).load_state_dict(state["model"])
        self._left_over = state["gradients"]
        # Batches are counted by their number, which another size gives another meaning.
        self._last_step = state["last_step"] if state["batch_size"] == self.batch_size else -1
        self._resumed = True
        self._rows = state["rows"]
        self.best_number, self.averaged = state["best_number"], state["averaged"]
        self.stopper.__dict__.update(state["stopper"])
        if state["loss_updates"] is not None:  # a loss whose weights follow the epochs
            model = unwrap_model(self.model)
            model.criterion = criterion_after(model, state["loss_updates"])
        self.epoch, self.metrics, self.figures = state["epoch"], state["metrics"], state["figures"]
        self.start_epoch = self.epoch + 1

    def _restore(self, state: dict[str, Any]) -> None:
        # Validation leaves tensors in the averaged model that cannot be updated any more: a new one is made.
        self.ema = ModelEMA(self.model)
        self.ema.ema.load_state_dict(state["ema"])
        self.ema.updates = state["ema_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.best_fitness = state["best_fitness"]

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """Repeat an epoch whose loss is not a number, from the averaged weights and with other draws.

        Raises:
            ModelError: it happened too often.
        """
        if self.loss is None or bool(self.loss.isfinite()):
            return False
        state = repeat.load_state(self.state_path)
        model = unwrap_model(self.model)
        if state is None and all(bool(p.isfinite().all()) for p in model.parameters()):
            return False  # mixed precision overflows in its first steps, and skips them
        self.nan_recovery_attempts += 1
        if state is None or self.nan_recovery_attempts > _NAN_ATTEMPTS:
            raise ModelError(
                f"train: the loss is not a number in epoch {epoch + 1}; lower train.lr0, raise train.warmup_epochs,"
                " or on a GPU set train.amp: false"
            )
        self._model_train()
        model.load_state_dict(state["ema"])
        self._restore(state)
        self._last_step = -1
        self.scheduler.last_epoch = epoch - 1
        return True

    def final_eval(self) -> None:
        """Put the weights into place. They are not measured once more: the stage validate does that."""
        self._write_csv()
        self._write_weights(self.last)
        best = self._mean_path if self.averaged else self._best_path(self.best_number)
        shutil.copyfile(best, self.best)  # kept, for a kill may come before the end
        for path in (self.last, self.best):
            read_checkpoint(path)  # torch knows the classes of a network only once it has been read in this way
            strip_optimizer(path)
        if self.args.plots:  # charts are drawn by a validation of the best weights
            self.validator.args.plots = True
            self.validator(model=self.best)

    def _write_csv(self) -> None:
        lines = [",".join(self._rows[0])]
        lines += [",".join(f"{value:.6g}" for value in row.values()) for row in self._rows]
        self.csv.write_text("\n".join(lines) + "\n", encoding="utf-8")


def criterion_after(model: Any, updates: int) -> Any:
    """Return the loss of a network of YOLO26 as it is after so many epochs: they decide how its two heads weigh."""
    criterion = model.init_criterion()
    criterion.updates = updates - 1
    criterion.update()
    return criterion


def find_sigmas(criterion: Any) -> list[torch.Tensor]:
    """Return the sigmas that a pose loss computes with, (n_slots,); those of YOLO26's two heads one after the other.

    Its assigners, which choose positives by OKS, share the tensors.
    """
    losses = (criterion, *(getattr(criterion, name, None) for name in ("one2many", "one2one")))
    return [loss.keypoint_loss.sigmas for loss in losses if hasattr(loss, "keypoint_loss")]


@contextmanager
def half_precision(model: torch.nn.Module) -> Iterator[None]:
    """Round a model's weights as saving them does, and give them back their bits.

    A checkpoint holds half-precision weights: what is measured is what will be loaded.
    """
    values = [value for value in model.state_dict().values() if value.is_floating_point()]
    kept = [value.clone() for value in values]
    for value in values:
        value.copy_(torch.nan_to_num(value.half()))
    try:
        yield
    finally:
        for value, original in zip(values, kept, strict=True):
            value.copy_(original)
