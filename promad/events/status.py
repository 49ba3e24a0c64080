"""`GroupStatus`: the state of one group after a tick."""

from __future__ import annotations

from dataclasses import dataclass

from promad.events.events import AnomalyEvent
from promad.events.verdict import State, Verdict


@dataclass(frozen=True)
class GroupStatus:
    """Where one group stands.

    Attributes:
        group: its labels.
        verdict: the newest judgement.
        events_begun: since the daemon started.
        event: the event that is open, if any.
        last_scored_at: unix seconds of the newest sample that got a score; None before the first.
        samples_in_window: complete samples in a row up to now, at most a window's length.
        muted: whether it is muted; None without `mute`.
        muted_by: the title of the entry that mutes it; empty if none does.
    """

    verdict: Verdict
    group: tuple[tuple[str, str], ...] = ()
    events_begun: int = 0
    event: AnomalyEvent | None = None
    last_scored_at: float | None = None
    samples_in_window: int = 0
    muted: bool | None = None
    muted_by: str = ""

    @property
    def is_flagged(self) -> bool | None:
        """What alerts look at: whether an event is open. None without a score, and while it is
        muted.
        """
        is_open = self.verdict.state is State.ANOMALOUS
        return None if self.verdict.score is None or (self.muted and is_open) else is_open

    @property
    def anomalous_since(self) -> float | None:
        """Start of the event that is open, in unix seconds; None without a score too."""
        if self.event is None or self.verdict.state is not State.ANOMALOUS:
            return None
        return self.event.start
