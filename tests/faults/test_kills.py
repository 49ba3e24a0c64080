"""Commands that are killed leave nothing behind that the next one trips over."""

from pathlib import Path

import pytest

from tests.support.kills import run_kills


@pytest.mark.slow
def test_a_kill_at_any_moment_spoils_nothing(tmp_path: Path) -> None:
    outcome = run_kills(tmp_path, 3, finish_every=3)
    assert outcome.violations == []
    assert outcome.events > 0
