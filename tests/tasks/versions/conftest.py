"""As tests of flows: no tracking server is kept from one test to the next."""

from __future__ import annotations

from tests.flows.conftest import _own_tracking

__all__ = ["_own_tracking"]
