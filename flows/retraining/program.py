"""The retraining flow as a program: what a run goes on with in a new process once it has pulled other code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def main(root: Path, asked: str) -> None:
    """Run the flow, without pulling again, with the server that the environment names."""
    from flows.services import server

    server.configure(root)
    from flows.retraining.flow import retraining_flow

    state: Any = retraining_flow(str(root), asked, False, return_state=True)
    server.settle(state.state_details.flow_run_id)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
