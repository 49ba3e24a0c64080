"""The daemon through many ticks with random faults, held to what an oracle knows of each tick.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.soak [--ticks 20000] [--seed 1] [--json FILE]

Poller, HTTP, event log, saved state and port are real; the clock is driven, and pauses between
repeated requests are shortened. The same seed yields the same faults at the same ticks. Exits with
1 if a claim did not hold.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.soak.oracle import FILLED_MAY_DECIDE
from tests.support.soak.world import Outcome, run_soak

_SHOWN = 40
_LONG = {"tick_seconds", "scrape_seconds"}


def main() -> None:
    arguments = parse_arguments()

    def show(tick: int) -> None:
        if tick % 1000 == 0:
            with suppress(OSError):  # the disk is full now and then
                print(f"  tick {tick}", file=sys.__stderr__, flush=True)

    with tempfile.TemporaryDirectory() as directory:
        outcome = run_soak(
            Path(directory),
            arguments.ticks,
            seed=arguments.seed,
            first=arguments.first,
            filled=arguments.filled,
            progress=show,
        )
    for line in describe(outcome):
        print(line)
    if arguments.json:
        arguments.json.write_text(json.dumps(summarise(outcome), indent=2) + "\n")
    sys.exit(bool(outcome.violations))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ticks", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first tick")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--filled",
        type=int,
        default=FILLED_MAY_DECIDE,
        help="for how many samples a filled feature may count as known in the newest row",
    )
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def describe(outcome: Outcome) -> list[str]:
    """The figures as lines, and the claims that did not hold."""
    rows = [(name, text) for name, text in _list_figures(outcome)]
    lines = [f"{name:<28} {text}" for name, text in rows]
    lines += [f"  {violation}" for violation in outcome.violations[:_SHOWN]]
    return lines


def _list_figures(outcome: Outcome) -> list[tuple[str, str]]:
    memory = outcome.compare(lambda each: each.megabytes)
    descriptors = outcome.compare(lambda each: float(each.descriptors))
    threads = outcome.compare(lambda each: float(each.threads))
    return [
        ("ticks", f"{outcome.ticks} in {outcome.seconds:.0f} s"),
        ("faults", f"{outcome.faults.total()} of {len(outcome.faults)} kinds"),
        ("states", _join(outcome.states)),
        ("held to", _join(outcome.checked)),
        ("events", str(outcome.events)),
        ("tick, ms", _describe_times(outcome.tick_seconds)),
        ("request to the port, ms", _describe_times(outcome.scrape_seconds)),
        ("resident memory, MB", f"{memory[0]:.1f} at first, {memory[1]:.1f} at last"),
        ("descriptors", f"{descriptors[0]:g} at first, {descriptors[1]:g} at last"),
        ("threads", f"{threads[0]:g} at first, {threads[1]:g} at last"),
        ("log", f"{outcome.log_lines} lines, {outcome.log_bytes / 1e6:.2f} MB"),
        ("claims that did not hold", str(len(outcome.violations))),
    ]


def _join(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _describe_times(seconds: Sequence[float]) -> str:
    if len(seconds) < 2:
        return "none"
    tail = statistics.quantiles(seconds, n=100)[98]
    return (
        f"median {1e3 * statistics.median(seconds):.1f}, 99 % {1e3 * tail:.0f}, "
        f"worst {1e3 * max(seconds):.0f}"
    )


def summarise(outcome: Outcome) -> dict[str, Any]:
    """Everything but the times of each tick and request, as plain values."""
    content = {name: value for name, value in vars(outcome).items() if name not in _LONG}
    return {**content, "resources": [dataclasses.asdict(each) for each in outcome.resources]}


if __name__ == "__main__":
    main()
