"""``python -m tests.fuzz``: mutated files for every reader, in pieces; an interrupted run goes on where it stopped."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from tests.fuzz.attack import MAX_MB, MAX_SECONDS, attack
from tests.fuzz.readers import READERS

PIECE = 2500


def main() -> None:
    """Read the command line and go on."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="for each reader, in all runs together")
    parser.add_argument(
        "--start", type=int, default=0, help="inputs that a run elsewhere has done, for a reader without a state"
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many; the next run goes on")
    parser.add_argument("--reader", choices=READERS, action="append", help="these alone")
    parser.add_argument("--state", type=Path, default=Path("build/fuzz.json"), help="what was done so far")
    arguments = parser.parse_args()
    state: dict[str, Any] = json.loads(arguments.state.read_text()) if arguments.state.exists() else {}
    end = time.monotonic() + 60 * arguments.minutes
    for name in arguments.reader or READERS:
        done = state.setdefault(name, {"inputs": arguments.start, "values": 0, "refusals": 0, "slowest_s": 0.0})
        while done["inputs"] < arguments.inputs and time.monotonic() < end:
            tally = attack(name, PIECE, number=done["inputs"])
            for key in ("inputs", "values", "refusals"):
                done[key] += getattr(tally, key)
            done["slowest_s"] = round(max(done["slowest_s"], tally.slowest_s), 3)
            arguments.state.parent.mkdir(parents=True, exist_ok=True)
            arguments.state.write_text(json.dumps(state, indent=1))
        print(f"{name}: {done}", flush=True)
    print(f"bounds for each input: {MAX_SECONDS:g} s of the processor, {MAX_MB} MB beyond what the process has")


if __name__ == "__main__":
    main()
