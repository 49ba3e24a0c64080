"""PromQL selectors with the matchers that the dashboard's variables choose by.

A label that a series does not have counts as empty, so `detector` and `group`, which only some
set-ups have, offer `.*` for All: it matches the empty label too.
"""

from dataclasses import dataclass

TARGET = ('job=~"$job"', 'instance=~"$instance"')
DETECTOR = 'detector=~"$detector"'


@dataclass(frozen=True)
class Groups:
    """How the metrics about groups are named: what they begin with, and what tells groups apart."""

    prefix: str = "anomaly_detector_"
    label: str = "group"

    @property
    def matcher(self) -> str:
        """The matcher that the variable `group` fills in."""
        return f'{self.label}=~"$group"'

    @property
    def legend(self) -> str:
        """What a legend calls a group; labels that are absent leave it."""
        return f"{{{{instance}}}} {{{{detector}}}} {{{{{self.label}}}}}"

    def select(self, name: str, *matchers: str) -> str:
        """A selector for series that exist once for each group.

        >>> Groups("", "host").select("score").removeprefix("score")
        '{job=~"$job", instance=~"$instance", detector=~"$detector", host=~"$group"}'
        """
        return of_detector(self.prefix + name, self.matcher, *matchers)


def of_process(metric: str, *matchers: str) -> str:
    """A selector for series that exist once for each running promad.

    >>> of_process("up")
    'up{job=~"$job", instance=~"$instance"}'
    """
    return f"{metric}{{{', '.join((*TARGET, *matchers))}}}"


def of_detector(metric: str, *matchers: str) -> str:
    """A selector for series that exist once for each detector."""
    return of_process(metric, DETECTOR, *matchers)


def per_second(counter: str) -> str:
    """The rate of a counter's selector."""
    return f"rate({counter}[$__rate_interval])"
