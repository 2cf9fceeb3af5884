"""The pages of Prefect and MLflow in a real browser: they answer what somebody wants to know of a training."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.cache_policies import NO_CACHE
from prefect.utilities.annotations import quote

from flows.commands import dashboards
from flows.pipeline.stages import shown as results
from flows.services.board import Board, opened
from flows.services.server import pointed_to, settle
from flows.system.process import UNTRACKED
from keypipe.demo.scene import write_demo
from tasks.workspace.places import report_folder
from tasks.workspace.program import write_json
from tests.flows.toy import Api
from tests.onnx_files import metadata_of, raw_output, write_constant_model
from tests.pages import forget_requests, picture, requests_beyond_loopback, text, wait_for, wait_for_text
from tests.served import serving
from tests.trained_runs import SCHEMA, record_export, record_training, record_validation

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mlflow_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """MLflow's pages of a workspace with two trainings, as ``keypipe ui`` starts them; address and runs."""
    root = tmp_path_factory.mktemp("cows")
    (root / ".keypipe").mkdir()
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", *UNTRACKED):
            patch.delenv(name, raising=False)
        patch.setattr(dashboards.server, "START_SECONDS", 600)
        runs = []
        for epochs, rate, value in ((12, 0.1, 0.52), (24, 0.12, 0.61)):
            runs.append(record_training(root, epochs, rate))
            record_validation(root, value)
            record_export(root)
        yield dashboards._mlflow(root, stack), runs


def environments(port: str) -> list[dict[str, str]]:
    """Return the environments of the processes that serve a port, and of their children."""
    held = [process for process in psutil.process_iter() if f"--port {port}" in " ".join(_command(process))]
    return [one.environ() for process in held for one in (process, *process.children(recursive=True))]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_mlflow(mlflow_pages: tuple[str, list[str]], browser: Any) -> None:
    page, (first, second) = mlflow_pages
    server, experiment = page.partition("/#")[0], page.partition("/experiments/")[2].partition("/")[0]
    browser.set_window_size(1400, 1100)
    forget_requests(browser)

    browser.get(page)  # as `keypipe ui` says it
    wait_for_text(browser, "train 120100", "train 240120", "Model training")
    assert "Judges" not in text(browser), "the view of language models"

    browser.get(f"{server}/#/experiments/{experiment}/runs/{second}?workflowType=machine_learning")
    close_assistant(browser)
    wait_for_text(browser, "A training of yolov8n-pose.yaml for keypoints", "OKS AP", "0.610 (0.530 to 0.680)")
    wait_for_text(browser, "data/raw", "1f2e3d4c1f2e", "how good the model is")
    wait_for_text(browser, "Metrics (20)")
    browser.find_element("xpath", "//*[text()='Show more']").click()
    picture(browser, "mlflow-run")
    link = browser.find_element("link text", "how good the model is").get_attribute("href")

    browser.get(f"{server}/#/experiments/{experiment}/runs/{second}/model-metrics?workflowType=machine_learning")
    titles = wait_for(browser, lambda: chart_titles(browser), "charts")
    assert not any("export" in title for title in titles)
    picture(browser, "mlflow-charts")

    browser.get(link)
    wait_for_text(browser, "report.html")
    frame = wait_for(browser, lambda: browser.find_elements("css selector", "iframe"), "the report")
    browser.switch_to.frame(frame[0])
    wait_for_text(browser, "OKS AP 0.610 on test")
    browser.switch_to.default_content()

    compare = f'runs=["{second}","{first}"]&experiments=["{experiment}"]&workflowType=machine_learning'
    browser.get(f"{server}/#/compare-runs?{compare}")
    wait_for_text(browser, "Comparing 2 Runs", "train 120100", "train 240120")
    picture(browser, "mlflow-compare")

    assert requests_beyond_loopback(browser) == set()


def close_assistant(browser: Any) -> None:
    """Close the panel that MLflow opens beside every page."""
    for button in browser.find_elements("css selector", "button[aria-label='Close']"):
        button.click()


def chart_titles(browser: Any) -> list[str]:
    return [
        item.text
        for item in browser.find_elements("css selector", "[data-testid='experiment-view-compare-runs-card'],h4,h3")
        if item.text
    ]


def test_no_server_of_pages_reports_usage(mlflow_pages: tuple[str, list[str]]) -> None:
    port = mlflow_pages[0].partition("127.0.0.1:")[2].partition("/")[0]
    found = environments(port)
    assert len(found) >= 2
    for environment in found:
        assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
        assert environment["DO_NOT_TRACK"] == "true"
        assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


@pytest.fixture
def shown(api: Api, tmp_path: Path) -> str:
    """The address of a run's page, whose stages are stand-ins and whose artifacts are those of a training."""
    from prefect import flow, task
    from prefect.context import FlowRunContext

    root = tmp_path / "cows"
    gallery = root / report_folder("validate") / "gallery/test/random"
    gallery.mkdir(parents=True)
    for image in write_demo(tmp_path / "drawn", 3, seed=3, size_wh=(480, 360)):
        shutil.copy(image, gallery)
    (root / "metrics").mkdir()
    coco = {"oks_AP": 0.61, "oks_AP50": 0.83, "within_0.1_diagonals": 0.79, "detected": 0.97, "keypoints_missed": 0.04}
    bounds = {"oks_AP_low": 0.53, "oks_AP_high": 0.68}
    write_json(root / "metrics/validate.json", {"test": {"coco": coco, "interval": bounds}, "val": {"coco": coco}})

    def stage(name: str, board: Board) -> None:
        if name == "train":
            for done in range(1, 6):
                board.show_progress("epochs cows", done / 5, f"`train`: {done} of 5 epochs")

    @flow(name="keypipe-training", flow_run_name="training 2026-11-30 03:00:00")
    def run() -> str:
        with opened() as board:
            state: Any = None
            for name in ("convert", "split", "train", "validate", "export"):
                made: Any = task(stage, name=name, task_run_name=name, cache_policy=NO_CACHE)
                state = made(name, quote(board), return_state=True, wait_for=[state] if state else None)
            results.show_results(root, board, "val / test: OKS AP50 0.830 / 0.830")
            results.show_pictures(root, board, 3, 30.0)
            board.show_link("mlflow cows", "http://127.0.0.1:5000/#/experiments/1", "Training in MLflow", "`1a2b3c4d`")
        return str(FlowRunContext.get().flow_run.id)  # type: ignore[union-attr]

    with pointed_to(api.url):
        run_id = run()
        settle(run_id)
    return f"{api.url.removesuffix('/api')}/runs/flow-run/{run_id}"


def test_prefect(shown: str, browser: Any) -> None:
    browser.set_window_size(1400, 1100)
    forget_requests(browser)
    browser.get(shown)
    wait_for_text(browser, "training 2026-11-30 03:00:00", "Completed", "Artifacts")
    click(browser, "Artifacts")
    wait_for_text(browser, "epochs-cows", "results-cows", "predictions-cows", "mlflow-cows", "5 of 5 epochs")
    time.sleep(3)  # the graph is drawn in a canvas, which says nothing of itself
    picture(browser, "prefect-run")
    links = {
        name: browser.find_element("partial link text", f"{name}-cows").get_attribute("href")
        for name in ("results", "predictions", "mlflow")
    }
    browser.get(links["results"])
    wait_for_text(browser, "OKS AP", "0.610 (0.530 to 0.680)", "keypoints missed")
    browser.get(links["predictions"])
    widths = "return [...document.images].filter((one) => one.src.startsWith('data:')).map((one) => one.naturalWidth)"
    wait_for(browser, lambda: browser.execute_script(widths) == [480] * 3, "three pictures")
    picture(browser, "prefect-predictions")
    browser.get(links["mlflow"])
    wait_for_text(browser, "Training in MLflow")
    assert requests_beyond_loopback(browser) == set()


def click(browser: Any, text_: str) -> None:
    wait_for(browser, lambda: browser.find_elements("xpath", f"//*[text()='{text_}']"), text_)[-1].click()


def test_the_servers_page(tmp_path: Path, browser: Any) -> None:
    """With a network that sees what is really there: whoever reads the docs should see what the page is for."""
    side_px, (width, height) = 480, (480, 360)
    drawn = write_demo(tmp_path / "drawn", 4, seed=8, size_wh=(width, height))[0]
    shapes = json.loads(drawn.with_suffix(".json").read_text())["shapes"]
    down_px = (side_px - height) / 2  # of the letterbox
    objects = []
    for box in (shape for shape in shapes if shape["shape_type"] == "rectangle"):
        (left, top), (right, bottom) = box["points"]
        points = {
            shape["label"]: (shape["points"][0][0], shape["points"][0][1] + down_px, 0.95)
            for shape in shapes
            if shape["shape_type"] == "point" and shape["group_id"] == box["group_id"]
        }
        unseen = {name: (0.0, 0.0, 0.1) for name in SCHEMA.slots if name not in points}
        middle = [(left + right) / 2, (top + bottom) / 2 + down_px, right - left, bottom - top]
        objects.append((box["label"], 0.93, middle, points | unseen))
    model = tmp_path / "cows.onnx"
    write_constant_model(model, raw_output(SCHEMA, objects), metadata_of(SCHEMA, side_px), side_px)
    browser.set_window_size(1280, 900)
    forget_requests(browser)
    with serving(tmp_path, model) as server:
        browser.get(server.url)
        browser.find_element("css selector", "#file").send_keys(str(drawn))
        count = f"{len(objects)} object{'s' if len(objects) > 1 else ''}"
        wait_for(browser, lambda: browser.find_element("css selector", "#count").text == count, count)
        picture(browser, "serving")
        assert requests_beyond_loopback(browser) == set()
        assert browser.get_log("browser") == []
