"""A trained model becomes a version: with its lineage and its card, loaded by alias, also where nothing else is."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pandas as pd
import pytest

from flows.services.server import free_port
from keypipe.demo.scene import write_demo
from keypipe.errors import ConfigError, ModelError
from keypipe.images.media import read_image
from keypipe.inference.onnx_model import load_onnx_model
from keypipe.inference.predictor import Predictor, Thresholds
from keypipe.inference.results import round_prediction
from keypipe.inference.tables import predict_rows
from tasks.registry.card import MAX_DESCRIPTION, to_description
from tasks.registry.moves.aliases import open_registry, promote, read_state
from tasks.registry.registration import register
from tasks.tracking.history import list_runs
from tasks.tracking.models.packaging import CODE, PACKAGES
from tasks.versions import snapshots
from tests.imports import ROOT, closure, imported_names
from tests.patience import PATIENCE
from tests.registered import SCHEMA, train_again
from tests.workspace import set_params


def load(root: Path, name: str) -> Any:
    """Load a version as a program does."""
    open_registry(root).aliases()  # points MLflow to the workspace's registry
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(f"models:/{name}")


def table(*images: Path) -> pd.DataFrame:
    return pd.DataFrame({"image": [path.read_bytes() for path in images]})


def expected(onnx: Path, *images: Path, conf: float = 0.25) -> list[dict[str, Any]]:
    predictor = Predictor(*load_onnx_model(onnx))
    return predict_rows(predictor, [path.read_bytes() for path in images], Thresholds(conf=conf))


def test_a_version_knows_what_it_was_made_of(registrable: Path) -> None:
    made = register(registrable, why="new barn", gate={"outcome": "promoted", "images": "12"})
    assert (made.name, made.version, made.new) == ("farm", "1", True)
    (version,) = read_state(registrable).versions
    training = json.loads((registrable / "models/train.json").read_text())
    snapshot = snapshots.of_workspace(registrable)
    assert snapshot is not None
    tags = version.tags
    assert tags["keypipe.run"] == training["run_id"]
    assert tags["keypipe.fingerprint"] == training["record"]["fingerprint"]
    assert tags["keypipe.data"] == training["record"]["raw_version"]
    assert tags["keypipe.data"] in (registrable / "data/raw.dvc").read_text()
    assert tags["keypipe.dataset"] in (registrable / "dvc.lock").read_text()
    assert tags["keypipe.git_commit"] == training["record"]["tags"]["keypipe.git_commit"]
    assert tags["keypipe.snapshot"] == snapshot.commit
    assert list(json.loads(tags["keypipe.schema"])["classes"]["cow"]["keypoints"]) == list(SCHEMA.slots)
    assert json.loads(tags["keypipe.sigmas"]) == {"cow": [0.1] * len(SCHEMA.slots)}
    assert tags["keypipe.gate.outcome"] == "promoted"
    figures = json.loads((registrable / "metrics/validate.json").read_text())["test"]["coco"]
    assert float(tags["test.oks_AP"]) == pytest.approx(figures["oks_AP"], abs=1e-4)
    state = read_state(registrable)
    assert state.aliases == {"challenger": "1"}
    assert [(entry.what, entry.why) for entry in state.entries] == [("register", "new barn")]
    run = next(run for run in list_runs(registrable) if run.id == training["run_id"])
    assert run.tags["keypipe.registered"] == "v1 of farm"
    assert "Registered as v1 of farm." in run.tags["mlflow.note.content"]


def test_the_run_of_a_training_says_whether_its_version_is_in_use(registrable: Path) -> None:
    register(registrable)
    promote(registrable, "1", why="the first")
    train_again(registrable, 3)
    register(registrable)
    promote(registrable, "2", why="better")
    said = [run.tags["keypipe.champion"] for run in list_runs(registrable) if "keypipe.champion" in run.tags]
    assert [text.partition(" 20")[0] for text in said] == ["v2 of farm is in use since", "v1 of farm was in use until"]


def test_a_model_is_registered_once(registrable: Path) -> None:
    first = register(registrable)
    again = register(registrable, commit=snapshots.of_workspace(registrable).commit)  # type: ignore[union-attr]
    assert (again.version, again.new) == (first.version, False)
    train_again(registrable, 3)
    second = register(registrable)
    assert (second.version, second.new) == ("2", True)
    now = snapshots.of_workspace(registrable)
    (old,) = [snapshot for snapshot in snapshots.list_snapshots(registrable) if snapshot != now]
    assert register(registrable, commit=old.commit).version == "1"
    assert read_state(registrable).aliases == {"challenger": "1"}


def test_what_is_not_of_one_make_is_refused(registrable: Path) -> None:
    set_params(registrable, **{"validate.conf": 0.3, "registry.model": "cows"})
    with pytest.raises(ModelError, match=r"of one make: validate \(modified: params.yaml validate\)"):
        register(registrable)
    set_params(registrable, **{"validate.conf": 0.25})
    open_registry(registrable).create("another's", {"keypipe.classes": "screw, nut"})
    with pytest.raises(
        ConfigError, match=r"cows is of the classes screw, nut, this workspace has cow; give registry.m"
    ):
        register(registrable)
    assert open_registry(registrable).versions() == []


def test_the_card_tells_figures_limits_and_licence(registrable: Path) -> None:
    register(registrable, gate={"outcome": "promoted"})
    (version,) = read_state(registrable).versions
    card = (Path(load(registrable, "farm/1")._model_impl.context.artifacts["onnx"]).parents[1] / "card.md").read_text()
    assert version.description == to_description(card)
    for text in ("# farm: cow (13 keypoints)", "| OKS AP |", "## Limits", "flatter", "AGPL-3.0-or-later", "left_ear",
                 "## Compared with the model in use", version.tags["keypipe.data"], "| train | "):  # fmt: skip
        assert text in card, text
    long = card + "| another keypoint | 1 |\n" * 1000
    cut = to_description(long)
    assert len(cut) <= MAX_DESCRIPTION
    assert cut.endswith("| another keypoint | 1 |\n\n… the rest is in `card.md` among the artifacts.\n")


def test_it_answers_as_the_predictor_does(registrable: Path, tmp_path: Path) -> None:
    register(registrable)
    promote(registrable, "1", why="the first")
    model = load(registrable, "farm@champion")
    images = write_demo(tmp_path / "images", 2, seed=5, size_wh=(200, 150))
    found = model.predict(table(*images))
    rows = expected(registrable / "exports/model.onnx", *images)
    assert found.to_dict("records") == rows
    assert {row["image"] for row in rows} == {0, 1}
    one = Predictor(*load_onnx_model(registrable / "exports/model.onnx")).predict_image(read_image(images[1]))
    assert msgspec.to_builtins(round_prediction(one[0]))["keypoints"] == rows[1]["keypoints"]
    texts = pd.DataFrame({"image": [base64.b64encode(path.read_bytes()).decode() for path in images]})
    assert model.predict(texts).to_dict("records") == rows
    assert model.predict(table(*images), params={"conf": 0.95}).empty
    assert list(model.predict(table(*images), params={"conf": 0.95}).columns) == [*rows[0]]
    with pytest.raises(Exception, match="image 1: not an image"):
        model.predict(pd.DataFrame({"image": [images[0].read_bytes(), b"hello"]}))
    assert model.metadata.metadata["keypipe.run"] == read_state(registrable).versions[0].tags["keypipe.run"]
    assert len(model.predict(model.input_example)) == 1


def test_each_version_runs_with_its_own_code(registrable: Path, tmp_path: Path) -> None:
    register(registrable)
    folder = Path(load(registrable, "farm/1")._model_impl.context.artifacts["onnx"]).parents[1]
    assert not [path.name for path in folder.rglob("*") if path.suffix in {".pkl", ".pickle"}]
    other = folder / "code/keypipe/inference/tables.py"
    other.write_text(other.read_text().replace('"image": position', '"image": position + 100'))
    import mlflow.pyfunc

    (image,) = write_demo(tmp_path / "images", 1, seed=5)
    models = [load(registrable, "farm/1"), mlflow.pyfunc.load_model(str(folder)), load(registrable, "farm/1")]
    other.write_text(other.read_text().replace("position + 100", "position + 200"))
    models.append(mlflow.pyfunc.load_model(str(folder)))
    assert {int(model.predict(table(image))["image"][0]) for model in models} <= {0, 100, 200}
    assert int(models[-1].predict(table(image))["image"][0]) == 200
    assert sys.modules["keypipe"].__file__ == str(ROOT / "keypipe/__init__.py")
    assert predict_rows.__module__ in sys.modules


def test_the_code_and_the_packages_that_go_along_are_all_that_prediction_imports() -> None:
    needed = closure(ROOT / "tasks/tracking/models/served_model.py") - {"tasks/tracking/models/served_model.py"}
    assert needed <= {f"keypipe/{name}" for name in CODE}
    assert len(CODE) < 50
    installed_as = {"cv2": "opencv-python-headless", "PIL": "pillow", "mlflow": "mlflow-skinny"}
    files = [ROOT / path for path in needed] + [ROOT / "tasks/tracking/models/served_model.py"]
    names = {name.partition(".")[0] for path in files for name in imported_names(path)}
    third_party = {installed_as.get(name, name) for name in names - sys.stdlib_module_names - {"keypipe"}}
    assert third_party == set(PACKAGES)


# ---------------------------------------------------------------------------------------- where nothing else is


def run(*command: str | Path, cwd: Path, **extra: str) -> str:
    """Run a command that must succeed, away from this environment."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "MLFLOW"))}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=kept | extra, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


LOAD = """
import json, sys
import mlflow.pyfunc, pandas as pd
model = mlflow.pyfunc.load_model("models:/farm-served@champion")
found = model.predict(pd.DataFrame({"image": [open(name, "rb").read() for name in sys.argv[1:]]}))
print("found", json.dumps(found.to_dict("records")))
print("loaded", *{name.partition(".")[0] for name in sys.modules})
"""


@pytest.mark.slow
def test_by_alias_in_an_empty_environment_of_its_own_requirements_and_by_mlflow_models_serve(
    registrable: Path, on_server: str, tmp_path: Path
) -> None:
    set_params(registrable, **{"registry.model": "farm-served"})
    register(registrable)  # the server does not know the training, which is restored there
    promote(registrable, "1", why="the first")
    import mlflow.artifacts

    needs = mlflow.artifacts.download_artifacts("models:/farm-served@champion/requirements.txt", dst_path=str(tmp_path))
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    programs = tmp_path / "venv/bin"
    run(programs / "python", "-m", "pip", "install", "--quiet", "-r", needs, cwd=tmp_path)
    listed = json.loads(run(programs / "python", "-m", "pip", "list", "--format", "json", cwd=tmp_path))
    assert not {item["name"].lower() for item in listed} & {
        "torch",
        "ultralytics",
        "prefect",
        "dvc",
        "keypipe",
        "mlflow",
    }
    images = write_demo(tmp_path / "images", 2, seed=5, size_wh=(200, 150))
    rows = expected(registrable / "exports/model.onnx", *images)

    said = run(programs / "python", "-c", LOAD, *images, cwd=tmp_path, MLFLOW_TRACKING_URI=on_server)
    assert json.loads(said.partition("found ")[2].splitlines()[0]) == rows
    assert not set(said.partition("loaded ")[2].split()) & {"torch", "ultralytics", "prefect", "dvc"}

    answers = serve_and_ask(programs, on_server, tmp_path, images)
    assert answers[0] == (200, rows)
    assert answers[1][0] == 400
    assert "image 0: not an image" in answers[1][1]


def serve_and_ask(programs: Path, uri: str, folder: Path, images: list[Path]) -> list[tuple[int, Any]]:
    """Serve the champion by MLflow's own server and ask it for these images, and for what is none."""
    from flows.services.server import wait_for_page
    from flows.system.process import Tree

    port, log = free_port(), folder / "serve.log"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "MLFLOW"))}
    env = kept | {"MLFLOW_TRACKING_URI": uri, "PATH": f"{programs}{os.pathsep}{kept['PATH']}"}
    command = [str(programs / "mlflow"), "models", "serve", "-m", "models:/farm-served@champion"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        tree = Tree(command, cwd=folder, env=env, output=output, grace=5)
        try:
            wait_for_page(log, tree, f"http://127.0.0.1:{port}/ping")
            answers: list[tuple[int, Any]] = []
            for contents in ([path.read_bytes() for path in images], [b"hello"]):
                records = [{"image": base64.b64encode(content).decode()} for content in contents]
                url = f"http://127.0.0.1:{port}/invocations"
                answer = httpx.post(url, json={"dataframe_records": records}, timeout=PATIENCE)
                body = answer.json()
                answers.append((answer.status_code, body.get("predictions", body.get("message"))))
            return answers
        finally:
            tree.end()
