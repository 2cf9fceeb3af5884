"""A person's word by Prefect: a deployment beside the schedule, for which nothing waits in the meantime."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from prefect.exceptions import PrefectHTTPStatusError

from flows.retraining.answer import FLOW_NAME
from flows.services.schedule_record import deployment_name
from tasks.registry.moves.aliases import challenge, open_registry, promote, read_state
from tasks.registry.moves.approvals import ask, find_waiting
from tests.flows.toy import PATIENCE, Toy, wait_until
from tests.pages import forget_requests, picture, requests_beyond_loopback, wait_for, wait_for_text


@pytest.fixture
def waiting(fresh: Toy) -> Iterator[Toy]:
    """A workspace whose second version waits for a person's word."""
    registry = open_registry(fresh.root)
    registry.create("for a test", {})
    for _ in range(2):
        registry._client.create_model_version(registry.name, "s3://nowhere/model")
    promote(fresh.root, "1", "the first")
    challenge(fresh.root, "2", "for a test")
    ask(fresh.root, "2", "promoted: every rule is kept", 3.0, ["anna"])
    yield fresh
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow writes it into the environment


def in_use(toy: Toy) -> str:
    return read_state(toy.root).aliases["champion"]


@pytest.mark.timeout(3600)
def test_a_word_that_does_not_fit_fails_with_one_message(waiting: Toy) -> None:
    from flows.retraining.answer import approval_flow

    state = approval_flow(str(waiting.root), "7", "approve", "looked at it", return_state=True)
    assert (state.name, state.message) == ("Failed", "v2 waits for a person's word, not 7")
    assert in_use(waiting) == "1"

    state = approval_flow(str(waiting.root), "v2", "reject", "misses calves", "anna", return_state=True)
    assert (state.name, state.message) == ("Rejected", "v2 is not put into use")
    state = approval_flow(str(waiting.root), "2", "approve", "after all", return_state=True)
    assert (state.name, state.message) == (
        "Failed", "no version waits for a person's word; `keypipe models` lists what is there",
    )  # fmt: skip
    last = read_state(waiting.root).entries[-1]
    assert (last.what, last.who, last.why, last.version) == ("reject", "anna", "misses calves", "2")
    assert in_use(waiting) == "1"


@pytest.mark.timeout(3600)
def test_an_answer_in_prefect_counts_though_the_schedule_was_not_running_when_it_was_given(waiting: Toy) -> None:
    served(waiting).stop()
    with pytest.raises(PrefectHTTPStatusError, match=r"409|422"):
        answer(waiting, version="2", answer="perhaps", why="I cannot say")
    run = answer(waiting, version="2", answer="approve", why="looked at the pictures")
    assert in_use(waiting) == "1"
    schedule = served(waiting)
    state = wait_for_end(run)
    output = schedule.stop()
    assert (state.name, state.type.value) == ("Approved", "COMPLETED"), output
    found = read_state(waiting.root)
    assert found.aliases == {"champion": "2", "previous": "1"}
    last = found.entries[-1]
    assert (last.what, last.who, last.why) == ("approve", "somebody in Prefect", "looked at the pictures")
    assert find_waiting(found.entries) is None


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_person_answers_on_prefects_page_or_by_command(waiting: Toy, browser: Any) -> None:
    schedule = served(waiting)
    pages = waiting.api.url.removesuffix("/api")
    deployment = f"{pages}/deployments/deployment/{find_deployment(waiting).id}"
    browser.set_window_size(1280, 1150)
    forget_requests(browser)
    answer_on_page(browser, deployment, version="2", answer="approve", why="looked at the pictures", who="anna")
    wait_until(lambda: in_use(waiting) == "2", "the answer to be carried out")
    last = read_state(waiting.root).entries[-1]
    assert (last.what, last.who, last.why) == ("approve", "anna", "looked at the pictures")
    browser.get(f"{pages}/runs/flow-run/{run_named(waiting, 'approve v2').id}")
    wait_for_text(browser, "approve v2", "Approved")
    picture(browser, "prefect-approved")

    challenge(waiting.root, "1", "for a test")
    ask(waiting.root, "1", "undecided: too few images", 3.0, ["anna"])
    assert "v1 is not put into use" in waiting.keypipe("reject", "1", "--why", "misses calves")
    answer_on_page(browser, deployment, version="1", answer="approve", why="after all", who="ben")
    wait_until(lambda: run_named(waiting, "approve v1"), "the answer to be looked at")
    browser.get(f"{pages}/runs/flow-run/{run_named(waiting, 'approve v1').id}")
    wait_for_text(browser, "approve v1", "Failed", "no version waits for a person's word")
    assert in_use(waiting) == "2"
    assert requests_beyond_loopback(browser) == set()
    schedule.stop()


def run_named(toy: Toy, name: str) -> Any:
    """Return the run of the deployment that has a name; None where there is none yet."""
    return next((run for run in toy.api._flow_runs(toy.root) if run.name == name), None)


def answer_on_page(browser: Any, deployment: str, **given: str) -> None:
    """Run a deployment as a person does: its page, "Run", "Custom run", the form, "Submit"."""
    from selenium.webdriver.support.ui import Select

    browser.get(deployment)
    for text in ("Run", "Custom run"):
        found = f"//*[self::button or self::a][normalize-space()='{text}']"
        wait_for(browser, lambda found=found: browser.find_elements("xpath", found), text)[-1].click()
    for name, value in given.items():
        field = f"(//label[contains(., '{name}')]/following::*[self::textarea or self::select])[1]"
        found = wait_for(browser, lambda field=field: browser.find_elements("xpath", field), name)[0]
        Select(found).select_by_visible_text(value) if name == "answer" else found.send_keys(value)
    picture(browser, f"prefect-approval-{given['version']}")
    browser.find_element("xpath", "//button[normalize-space()='Submit']").click()
    wait_for_text(browser, "scheduled")


class Served:
    """A schedule in a process of its own."""

    def __init__(self, toy: Toy) -> None:
        self.toy = toy
        self.process = self.toy.start("schedule", "--cron", "0 0 1 1 *")

    def stop(self) -> str:
        self.process.terminate()
        output, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 143, output
        wait_until(lambda: not self.toy.processes(), "its processes to be gone")
        return output


def served(toy: Toy) -> Served:
    """Start a schedule and wait until its deployment for answers is looked after."""
    began = time.time()
    schedule = Served(toy)

    def polled() -> bool:
        assert schedule.process.poll() is None
        found = find_deployment(toy)
        return found is not None and found.last_polled is not None and found.last_polled.timestamp() > began

    wait_until(polled, "the deployment to be served")
    return schedule


def find_deployment(toy: Toy) -> Any:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            return client.read_deployment_by_name(f"{FLOW_NAME}/{deployment_name(toy.root)}")
        except ObjectNotFound:
            return None


def answer(toy: Toy, **given: str) -> Any:
    """Run the deployment as its page in the UI does."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.create_flow_run_from_deployment(find_deployment(toy).id, parameters=given)


def wait_for_end(run: Any) -> Any:
    """Wait until a run has ended; returns its state."""
    from prefect.client.orchestration import get_client

    def state() -> Any:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(run.id).state

    wait_until(lambda: state().is_final(), "the answer to be carried out")
    return state()
