"""Commands on annotations."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli import cli
from flows.command_line.data import changing
from flows.pipeline.lease import hold, new_lease
from keypipe.errors import AnnotationError, ConfigError, PoseError
from tests.workspace import git, make_workspace


def test_labels_go_out_and_come_in_again(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "workspace", n_images=6)
    runner = CliRunner()

    def run(*arguments: str) -> str:
        done = runner.invoke(cli, arguments, obj=root, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    assert "6 images" in run("export-labels", "coco", str(tmp_path / "out"))
    assert "6 images" in run("import", "coco", str(tmp_path / "out"), "--name", "again", "--skip-faulty")
    assert (root / "data/raw/again").is_dir()
    assert "12 images" in run("data", "export", "yolo", str(tmp_path / "yolo"), "--images", "none")
    with pytest.raises(AnnotationError, match=r"none of its 10 label files, such as labels/.*, is called as one of"):
        run("import", "yolo", str(tmp_path / "yolo"), "--images", str(tmp_path / "out"))
    run("data", "export", "yolo", str(tmp_path / "whole"))
    with pytest.raises(ConfigError, match="expected the names of 13 keypoints, got 2"):
        run("import", "yolo", str(tmp_path / "whole"), "--keypoints", "a, b")
    refused = runner.invoke(cli, ["import", "voc", str(tmp_path)], obj=root)
    assert refused.exit_code == 2


def test_no_data_are_changed_under_a_run(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    own = new_lease(flow_run_name="training of tonight")
    with hold(tmp_path, own, print), ThreadPoolExecutor(1) as elsewhere:
        changes = (
            ["demo"],
            ["use", str(tmp_path)],
            ["import", "coco", str(tmp_path)],
            ["sigmas", str(tmp_path), str(tmp_path)],
            ["run", "--set", "train.epochs=1"],
        )
        for arguments in changes:
            done = elsewhere.submit(CliRunner().invoke, cli, arguments, obj=tmp_path).result()
            assert isinstance(done.exception, PoseError)
            assert str(done.exception).startswith("the workspace is in use: run training of tonight, pid ")
    assert not (tmp_path / "data").exists()


def test_no_run_starts_while_data_are_changed(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    said: list[str] = []
    with changing(tmp_path), ThreadPoolExecutor(1) as elsewhere:

        def give_up() -> None:
            raise TimeoutError

        def run() -> None:
            with hold(tmp_path, new_lease(), said.append, give_up):
                raise AssertionError

        with pytest.raises(TimeoutError):
            elsewhere.submit(run).result()


def test_options_of_another_format_are_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["import", "coco", str(tmp_path), "--keypoints", "a,b"], obj=tmp_path)
    assert done.exit_code != 0
    assert "--keypoints is for `keypipe import yolo`; coco brings its own" in done.output + str(done.exception)
