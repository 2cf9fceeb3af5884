"""Tells Prefect of the runs that had nothing to do: ``python afterwards_program.py WORKSPACE``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))  # the folder that holds the package `flows`


def main(root: Path) -> None:
    """Tell all, oldest first; one process does at a time."""
    from flows.pipeline.unchanged import afterwards
    from flows.services import server
    from flows.system.locks import held_lock

    server.configure(root)
    with held_lock(root / afterwards.FOLDER / "lock", lambda: None):
        if not afterwards.list_untold(root):  # the process before has told it
            return
        url = server.configured_url()
        if url is None:
            record = server.recorded_server(root)
            if record is None:
                return
            url = record.url
        with server.pointed_to(url):
            for path, untold in afterwards.list_untold(root):
                _tell(root, path, untold)


def _tell(root: Path, path: Path, untold: Any) -> None:
    from flows.pipeline.unchanged.cached_flow import make_cached_flow
    from flows.services import server

    if untold.flow_run_id:  # the process that told it was killed meanwhile
        server.end_flow_run(untold.flow_run_id, "COMPLETED", "nothing was to do; told afterwards")
    else:
        state = make_cached_flow(path, untold)(str(root), untold.until, return_state=True)
        if not state.is_completed():
            raise RuntimeError(f"{untold.run.name}: {state.message}")
        server.settle(state.state_details.flow_run_id)
        _name_last_run(root, untold, str(state.state_details.flow_run_id))
    path.unlink(missing_ok=True)


def _name_last_run(root: Path, untold: Any, flow_run_id: str) -> None:
    """Write Prefect's id of the run into the record of the last one, if it is still that."""
    from flows.pipeline import lease
    from flows.pipeline.run_result import LAST_RUN, RunResult
    from flows.system.locks import LockedError, held_lock
    from flows.system.state_files import read_record, write_record

    try:
        with held_lock(root / lease.LOCK):
            if read_record(root / LAST_RUN, RunResult) == untold.run:
                untold.run.flow_run_id = flow_run_id
                write_record(root / LAST_RUN, untold.run)
    except LockedError:  # a run is going on, and its record comes next
        return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
