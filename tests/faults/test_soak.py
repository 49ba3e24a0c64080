"""The last ticks of `benchmarks.soak`: random faults, and an oracle that knows the truth."""

from pathlib import Path

import pytest

from tests.support.soak.world import run_soak


@pytest.mark.slow
def test_no_fault_makes_the_daemon_say_what_is_not_true(tmp_path: Path) -> None:
    outcome = run_soak(tmp_path, 2_000, first=18_000)
    assert outcome.violations == []
    assert outcome.ticks == 2_000
    assert min(outcome.checked[kind] for kind in ("exact", "scored or not", "anomalies")) > 0
