"""The pages of Prefect and MLflow in a real browser: they answer what somebody wants to know of a training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psutil
import pytest

from flows.commands import dashboards
from flows.system.process import UNTRACKED
from tests.pages import forget_requests, picture, requests_beyond_loopback, text, wait_for, wait_for_text
from tests.trained_runs import record_export, record_training, record_validation

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
    assert os.getpid()
