"""The servers, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tools.backends.postgres import INSTALL, find_programs
from tools.backends.stack import Backends, running_servers

PASSWORD = "correct/horse@9f2e%"
"""With what an address has to write in percent."""


def prepare() -> None:
    """Skip the test where PostgreSQL is not installed; let servers take longer than a user would wait."""
    if find_programs() is None:
        pytest.skip(f"needs PostgreSQL's server: {INSTALL}")
    from flows.services import server

    server.START_SECONDS = 600


@pytest.fixture(scope="session")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    """PostgreSQL, the S3 API, MLflow and Prefect, which have nothing to do with the servers of other tests."""
    prepare()
    with running_servers(tmp_path_factory.mktemp("backends"), PASSWORD) as started:
        yield started
