"""promad's commands, killed at random moments while an event is open, and what is left of them.

    python -m benchmarks.kills [--kills 200] [--seed 1]

Real processes with the model `linear` against a simulated host with an incident under way. Exits
with 1 if a claim did not hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.support.kills import run_kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    def show(number: int) -> None:
        if number % 10 == 0:
            print(f"  kill {number}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as directory:
        outcome = run_kills(
            Path(directory), arguments.kills, seed=arguments.seed, finish_every=10, progress=show
        )
    killed = ", ".join(f"{name} {count}" for name, count in sorted(outcome.kills.items()))
    print(f"kills                     {killed}")
    print(f"commands run to their end {outcome.finished}")
    print(f"events, bundles           {outcome.events}, {outcome.bundles}")
    print(f"seconds                   {outcome.seconds:.0f}")
    print(f"claims that did not hold  {len(outcome.violations)}")
    for violation in outcome.violations:
        print(f"  {violation}")
    sys.exit(bool(outcome.violations))


if __name__ == "__main__":
    main()
