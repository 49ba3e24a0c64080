"""PromQL selectors with the matchers that the dashboards' variables choose by.

A label that a series does not have counts as empty. History that older versions exposed may have no
label `detector`, so that variable offers `.*` for All, which matches the empty label too.
"""

from dataclasses import dataclass

from promad.events.verdict import State
from promad.exposition import names
from promad.exposition.names import MetricSpec, Subject

TARGET = ('job=~"$job"', 'instance=~"$instance"')
DETECTOR = 'detector=~"$detector"'

BY_DETECTOR = "by (job, instance, detector)"
"""How to aggregate to one value for each detector."""

LEGEND = "{{instance}} {{detector}}"
"""The legend of a detector's series; a label that is absent leaves no trace."""


@dataclass(frozen=True)
class Selector:
    """Selects the series of a metric; `prefix` is that of the metrics about groups."""

    prefix: str

    def __call__(self, metric: MetricSpec, *matchers: str) -> str:
        """A selector for a metric's series, as far as they are chosen on the dashboard.

        >>> Selector("my_")(names.SCORE)
        'my_score{job=~"$job", instance=~"$instance", detector=~"$detector"}'
        """
        name = metric.full_name(self.prefix)
        if metric.subject is Subject.PROCESS:
            return select_process(name, *matchers)
        return select_detector(name, *matchers)


def select_detector(name: str, *matchers: str) -> str:
    """A selector for series that each detector has, by their whole name."""
    return select_process(name, DETECTOR, *matchers)


def select_process(name: str, *matchers: str) -> str:
    """A selector for series that each running promad has, by their whole name.

    >>> select_process("up")
    'up{job=~"$job", instance=~"$instance"}'
    """
    return f"{name}{{{', '.join((*TARGET, *matchers))}}}"


def number_states(select: Selector) -> str:
    """Each group's state as a number: its place in `State`, from 0."""
    numbered = (
        f"{select(names.STATE, f'state="{state}"')} * {place}" for place, state in enumerate(State)
    )
    return f"sum without (state) ({' or '.join(numbered)})"


def compute_rate(counter: str) -> str:
    """The rate per second of a counter's selector."""
    return f"rate({counter}[$__rate_interval])"
