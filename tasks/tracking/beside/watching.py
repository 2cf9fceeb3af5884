"""What was seen of a model in use, as child runs of its training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from keypipe.errors import PoseError
from tasks.tracking.client import answering, first_line, open_client
from tasks.tracking.machine import own_process
from tasks.tracking.tags import PARENT, PROCESS, STAGE


def try_record(
    root: Path, training: str, stage: str, name: str, metrics: Mapping[str, float], tags: Mapping[str, str], files: Path
) -> tuple[str, str]:
    """Record a look at a model as a child run of its training, where that can be done.

    Args:
        root: the workspace.
        training: MLflow run of the training; "" where none is known: nothing is recorded.
        stage: what was done, such as ``drift``.
        name: of the run.
        metrics: figures.
        tags: further tags.
        files: folder whose files are kept with it.

    Returns:
        The run's id, and why it could not be recorded; one of them is empty.
    """
    if not training:
        return "", "the MLflow run of the training is not known"
    try:
        with answering(root):
            client = open_client(root)
            experiment = client.get_run(training).info.experiment_id
            all_tags = {PARENT: training, STAGE: stage, PROCESS: own_process(), **tags}
            run_id = str(client.create_run(experiment, tags=all_tags, run_name=name).info.run_id)
            for key, value in metrics.items():
                client.log_metric(run_id, key, value)
            client.log_artifacts(run_id, str(files), f"reports/{files.name}")
            client.update_run(run_id, status="FINISHED")
            return run_id, ""
    except (PoseError, OSError) as error:
        return "", first_line(error)
