"""What the web server may look at: every detector at work, as it stands now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from promad.bundle import Bundle
from promad.config import Config
from promad.detection.recent_history import RecentHistory
from promad.events.event_log import EventLog
from promad.exposition import Snapshot
from promad.scoring.detector import Detector


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
    histories: Mapping[str, RecentHistory]
    snapshot: Callable[[], Snapshot]


Detectors = Callable[[], Sequence[RunningDetector]]
"""All detectors at work; none while the daemon starts."""
