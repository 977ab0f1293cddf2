"""The long versions of the kill, fault and bad-input tests; `make torture` runs them all.

    python scripts/torture.py [--kills 200] [--faults 50] [--inputs 10000] [--seed 0] [--jobs 2]

Prints "survived N of N" for each and what was done; exits with 1 where anything did not survive. Works in temporary
folders and on the loopback interface alone. The same seed gives the same faults and inputs, and the same plan of kills;
at which instruction a kill strikes is the machine's affair.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.torture.faults import run_faults  # noqa: E402
from tests.torture.inputs import run_inputs  # noqa: E402
from tests.torture.kills import run_kills  # noqa: E402
from tests.torture.tally import Tally  # noqa: E402


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=_count, default=200, help="processes killed by kill -9")
    parser.add_argument("--faults", type=_count, default=50, help="faults of the network")
    parser.add_argument("--inputs", type=_count, default=10_000, help="random and mutated inputs")
    parser.add_argument("--seed", type=_count, default=0, help="of all that is random")
    parser.add_argument("--jobs", type=_count, default=2, help="killed journeys at a time")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="torture.") as name:
        folder, seed = Path(name), wanted.seed
        tallies = [
            _run(wanted.inputs, lambda count: run_inputs(count, seed)),
            _run(wanted.faults, lambda count: run_faults(folder / "faults", count, seed)),
            _run(wanted.kills, lambda count: run_kills(folder / "kills", count, seed, jobs=max(1, wanted.jobs))),
        ]
    return int(any(tally.problems for tally in tallies if tally is not None))


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no whole number from 0 on")
    return int(text)


def _run(count: int, torture: Callable[[int], Tally]) -> Tally | None:
    """One kind, printed as soon as it is over; none of it where `count` is 0."""
    if count == 0:
        return None
    begin, tally = time.monotonic(), torture(count)
    print(f"{tally}; {time.monotonic() - begin:.0f} s", flush=True)
    for problem in tally.problems:
        print(f"  {problem}", file=sys.stderr)
    return tally


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
