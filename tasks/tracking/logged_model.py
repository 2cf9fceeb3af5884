"""The exported network as a model of MLflow's, which came of a training and has its figures."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tasks.tracking.figures import link_figures
from tasks.tracking.outbox import OnnxModel
from tasks.tracking.tags import EXPORT, PARENT

NAME = "model"
KIND = "keypoints"
"""Type of the models, by which MLflow finds them."""


def log_onnx_model(client: Any, run_id: str, item: OnnxModel, path: Path) -> None:
    """Log an ONNX file as a model with its signature, once.

    Args:
        client: MLflow's.
        run_id: the run that exported it; the model is its training's.
        item: what is to be known of it.
        path: the file.
    """
    from mlflow.entities import LoggedModelOutput

    run = client.get_run(run_id)
    experiment, training = run.info.experiment_id, run.data.tags.get(PARENT, run_id)
    found = client.search_logged_models([experiment], filter_string=f"tags.`{EXPORT}` = '{run_id}'")
    made = found[0] if found else None
    if made is not None and made.status == "READY":
        return
    if made is None:  # else its files did not arrive
        made = client.create_logged_model(
            experiment,
            NAME,
            source_run_id=training,
            tags={EXPORT: run_id},
            params={"height_px": str(item.height), "width_px": str(item.width)},
            model_type=KIND,
        )
    with tempfile.TemporaryDirectory(prefix="keypipe-") as scratch:
        folder = Path(scratch) / NAME
        _save(folder, path, item, training, made.model_id)
        client.log_model_artifacts(made.model_id, str(folder))
    for id_ in dict.fromkeys([training, run_id]):
        client.log_outputs(id_, [LoggedModelOutput(made.model_id, 0)])
    link_figures(client, training, made.model_id)
    client.finalize_logged_model(made.model_id, "READY")


def _save(folder: Path, path: Path, item: OnnxModel, training: str, model_id: str) -> None:
    import mlflow.onnx
    import numpy as np
    import onnx
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    graph = onnx.load(str(path))
    size = (item.height, item.width)
    inputs = Schema([TensorSpec(np.dtype("float32"), (-1, 3, *size), graph.graph.input[0].name)])
    shape = [dim.dim_value or -1 for dim in graph.graph.output[0].type.tensor_type.shape.dim]
    outputs = Schema([TensorSpec(np.dtype("float32"), (-1, *shape[1:]), graph.graph.output[0].name)])
    mlflow.onnx.save_model(
        graph,
        str(folder),
        mlflow_model=Model(run_id=training, model_uuid=model_id, model_id=model_id),
        signature=ModelSignature(inputs, outputs),
        pip_requirements=["onnxruntime"],
    )
