"""What the web server may look at: every detector at work, as it stands now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from promad.bundle import Bundle
from promad.config import Config
from promad.detection.recent_history import Recent
from promad.events.event_log import EventLog
from promad.exposition import AnySnapshot
from promad.scoring.detector import Detector


class History(Protocol):
    """The newest verdicts of a group."""

    def between(self, start: float = ..., end: float = ...) -> Recent:
        """The verdicts from `start` to `end`, unix seconds, both included."""
        ...


@dataclass(frozen=True)
class RunningDetector:
    """One detector at work.

    Attributes:
        snapshot: where it stands after its last tick.
        histories: the newest verdicts of each of its groups, by the group's name.
    """

    config: Config
    bundle: Bundle
    detector: Detector
    events: EventLog
    histories: Mapping[str, History]
    snapshot: Callable[[], AnySnapshot]


Detectors = Callable[[], Sequence[RunningDetector]]
"""All detectors at work; none while the daemon starts."""
