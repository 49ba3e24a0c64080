"""PromQL selectors with the matchers that the dashboards' variables choose by.

A label that a series does not have counts as empty, so `detector`, which series have only where a
daemon runs several, offers `.*` for All: it matches the empty label too.
"""

from dataclasses import dataclass

from promad.events.verdict import State
from promad.exposition import DAEMON_PREFIX

TARGET = ('job=~"$job"', 'instance=~"$instance"')
DETECTOR = 'detector=~"$detector"'

BY_DETECTOR = "by (job, instance, detector)"
"""How to aggregate to one value for each detector."""

LEGEND = "{{instance}} {{detector}}"
"""What a legend calls a detector; a label that is absent leaves it."""


@dataclass(frozen=True)
class Groups:
    """Series that exist once for each group: `prefix` is what their names begin with."""

    prefix: str

    def select(self, name: str, *matchers: str) -> str:
        """A selector for them, by their name without the prefix.

        >>> Groups("my_").select("score")
        'my_score{job=~"$job", instance=~"$instance", detector=~"$detector"}'
        """
        return selected(self.prefix + name, *matchers)

    @property
    def state(self) -> str:
        """Each group's state as its place in `State`, from 0."""
        numbered = (
            f"{self.select('state', f'state="{state}"')} * {place}"
            for place, state in enumerate(State)
        )
        return f"sum without (state) ({' or '.join(numbered)})"


def selected(metric: str, *matchers: str) -> str:
    """A selector for series that exist once for each detector, by their whole name."""
    return of_process(metric, DETECTOR, *matchers)


def of_detector(name: str, *matchers: str) -> str:
    """A selector for the daemon's own series of each detector, by their name without the prefix."""
    return selected(DAEMON_PREFIX + name, *matchers)


def of_daemon(name: str, *matchers: str) -> str:
    """A selector for the daemon's own series, by their name without the prefix."""
    return of_process(DAEMON_PREFIX + name, *matchers)


def of_process(metric: str, *matchers: str) -> str:
    """A selector for series that exist once for each running promad, by their whole name.

    >>> of_process("up")
    'up{job=~"$job", instance=~"$instance"}'
    """
    return f"{metric}{{{', '.join((*TARGET, *matchers))}}}"


def per_second(counter: str) -> str:
    """The rate of a counter's selector."""
    return f"rate({counter}[$__rate_interval])"
