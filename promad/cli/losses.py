"""How features that cost many rows are shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from promad.config.durations import format_instant

if TYPE_CHECKING:
    from promad.data.losses import Loss


def format_losses(losses: Sequence[Loss]) -> Iterator[str]:
    """A warning for each feature, with its share of the rows and what to do."""
    for loss in losses:
        late, remedy = "", ""
        if loss.begins is not None:
            late = f", most of them before its first value at {format_instant(loss.begins)}"
            remedy = ", collect a period that begins later"
        yield (
            f"  warning: {loss.feature} is missing in {loss.share:.0%} of the rows{late}; rows "
            "with a missing value are dropped for every feature — append `or vector(0)` to the "
            f"query if no sample means 0{remedy}, or remove the query"
        )
