"""dvc.yaml, the stage modules, their parameters, their tests and the flow speak of the same stages."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.imports import (
    DRAWS,
    PACKAGES,
    RECORDS,
    ROOT,
    TELLS,
    closure,
    imported_files,
    is_within,
    names_from_packages,
    relative,
)

DVC: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
SHARED_SECTIONS = {"seed", "schema", "doctor"}
"""Sections of several stages: ``doctor`` says what the diagnosis in convert and split reports and stops."""
NO_STAGES = {"registry", "drift", "retrain", "retention"}
"""Sections that no stage depends on: what happens to a model after the pipeline."""
WITH_PAGES = {"convert", "split", "validate", "export"}
"""Stages whose outputs hold pages and pictures."""
NOT_OF_TRAINING = {
    "keypipe/dataset/changes.py",
    "keypipe/dataset/coco_writer.py",
    "keypipe/evaluation/bootstrap.py",
    "keypipe/evaluation/calibration.py",
    "keypipe/evaluation/gallery.py",
    "keypipe/keypoints/packed.py",
    "tasks/workspace/changes.py",
    "tasks/workspace/verdict.py",
}
"""Files in folders that train depends on, which it does not import: an edit of them trains anew all the same."""
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def out_names(stage: str) -> list[str]:
    """Return all outputs of a stage: outs, metrics and plots, with or without options."""
    entries = [entry for key in ("outs", "metrics", "plots") for entry in DVC[stage].get(key, ())]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def test_a_stage_a_section_and_a_test_module_each() -> None:
    assert [name for name in PARAMS if name not in NO_STAGES] == ["seed", "schema", "doctor", *DVC]
    for stage in DVC:
        assert (ROOT / "tests" / "tasks" / f"test_{stage}.py").exists(), stage


@pytest.mark.parametrize("stage", DVC)
def test_a_stage_is_the_program_of_its_name(stage: str) -> None:
    assert DVC[stage]["cmd"] == f"python -m tasks.{stage}"
    tree = ast.parse((ROOT / "tasks" / f"{stage}.py").read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {"run", "main"} <= functions.keys()
    assert [argument.arg for argument in functions["main"].args.args] == ["root"]
    assert "root" in [argument.arg for argument in functions["run"].args.args]


def code_deps(stage: str) -> list[str]:
    return [dep for dep in DVC[stage]["deps"] if dep.partition("/")[0] in PACKAGES]


def needed(stage: str) -> set[str]:
    """Return the project files that a stage's outputs follow from."""
    without = RECORDS if stage in WITH_PAGES else TELLS
    return closure(ROOT / "tasks" / f"{stage}.py", without)


@pytest.mark.parametrize("stage", DVC)
def test_deps_name_every_project_file_that_the_outputs_follow_from(stage: str) -> None:
    missing = {name for name in needed(stage) if not is_within(name, code_deps(stage))}
    assert not missing, "name them, or their folders, in dvc.yaml"


@pytest.mark.parametrize("stage", DVC)
def test_deps_are_few_and_each_of_use(stage: str) -> None:
    deps = code_deps(stage)
    assert len(deps) <= 15
    assert deps == sorted(deps)
    for dep in deps:
        assert (ROOT / dep).exists(), dep
        assert any(is_within(name, [dep]) for name in needed(stage)), f"{dep}: nothing of it is imported"
        assert not is_within(dep, RECORDS), f"{dep}: only records; an edit would make {stage} stale"


def test_a_stage_with_pages_depends_on_what_draws_them() -> None:
    for stage in DVC:
        pages = any(str(name).startswith("reports/") for name in out_names(stage))
        assert pages == (stage in WITH_PAGES)
        drawn = [dep for dep in code_deps(stage) if is_within(dep, DRAWS)]
        assert bool(drawn) == pages, stage


def test_what_only_tells_is_told_by_the_train_stage_alone() -> None:
    """Nothing that a training computes with imports what draws or records: a prettier page trains nothing anew."""
    for name in needed("train") - {"tasks/train.py"}:
        told = {relative(file) for file in imported_files(ROOT / name) if is_within(relative(file), TELLS)}
        assert not told, f"{name} imports {', '.join(sorted(told))}"


def test_what_makes_a_training_stale_is_what_it_imports() -> None:
    files = {
        relative(path)
        for dep in code_deps("train")
        for path in ([ROOT / dep] if (ROOT / dep).is_file() else sorted((ROOT / dep).rglob("*")))
        if path.is_file() and path.name != "__init__.py" and "__pycache__" not in path.parts
    }
    assert files - needed("train") == NOT_OF_TRAINING


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_modules_import_from_modules(path: Path) -> None:
    """A name that a package offers lazily does not tell from which module it comes, so that deps would miss it."""
    assert not names_from_packages(path)


@pytest.mark.parametrize("stage", DVC)
def test_a_stage_depends_on_its_own_section(stage: str) -> None:
    names = DVC[stage]["params"]
    assert stage in names
    others = {name.partition(".")[0] for name in names} - {stage} - SHARED_SECTIONS
    # data.yaml carries the loss sigmas; validate says how the best epoch is chosen and an export's AP is measured.
    assert others <= {"split": {"train"}, "train": {"validate"}, "export": {"validate"}}.get(stage, set())


def test_nothing_is_left_in_packages_that_deps_would_miss() -> None:
    for path in (path for top in PACKAGES for path in (ROOT / top).rglob("__init__.py")):
        package = ".".join(path.relative_to(ROOT).parts[:-1])
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            is_constant = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in {"__version__", "__all__"}
            is_switch = ast.unparse(node) == "from typing import TYPE_CHECKING"
            assert is_docstring or is_constant or is_switch or offers_names(node, package), (
                f"{path}: {ast.unparse(node)}"
            )


def offers_names(node: ast.stmt, package: str) -> bool:
    """Whether a statement offers names of the package's own modules: to type checkers at once, to Python lazily."""
    if not isinstance(node, ast.If) or ast.unparse(node.test) != "TYPE_CHECKING" or len(node.orelse) != 2:
        return False
    mechanism, offer = node.orelse
    return (
        all(isinstance(line, ast.ImportFrom) and str(line.module).startswith(f"{package}.") for line in node.body)
        and ast.unparse(mechanism) == "from keypipe.lazy import offer"
        and isinstance(offer, ast.Assign)
        and ast.unparse(offer.targets[0]) == "(__getattr__, __dir__)"
        and isinstance(offer.value, ast.Call)
        and ast.unparse(offer.value.func) == "offer"
        and [ast.unparse(argument) for argument in offer.value.args] == ["__name__"]
        and all(ast.literal_eval(keyword.value) for keyword in offer.value.keywords)
    )


def test_the_flow_runs_the_stages_in_the_order_of_dvc_yaml() -> None:
    from tasks.versions.stages.state import stage_names

    assert stage_names(ROOT) == list(DVC)


def test_data_deps_are_made_by_earlier_stages_or_by_people() -> None:
    made = ["data/raw", "data/groups.csv", "data/sigmas.yaml", "data/weights"]
    for stage, entry in DVC.items():
        for dep in entry["deps"]:
            if not dep.startswith(("keypipe/", "tasks/")):
                assert any(dep == out or dep.startswith(f"{out}/") for out in made), f"{stage}: {dep}"
        made += out_names(stage)


def test_what_dvc_keeps_git_does_not() -> None:
    import subprocess

    for stage in DVC.values():
        for entry in stage.get("outs", ()):
            name = entry if isinstance(entry, str) else next(iter(entry))
            cached = isinstance(entry, str) or entry[name].get("cache", True)
            ignored = subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT, check=False).returncode == 0
            assert ignored == cached, name
