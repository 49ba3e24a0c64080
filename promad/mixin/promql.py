"""PromQL selectors with the matchers that the dashboards' variables choose by.

A label that a series does not have counts as empty. History that older versions exposed may have no
label `detector`, so that variable offers `.*` for All, which matches the empty label too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from promad.events.verdict import State
from promad.exposition import names
from promad.exposition.names import MetricSpec, Subject
from promad.mixin.deployment import Deployment

DETECTOR = 'detector=~"$detector"'

LEGEND = "{{instance}} {{detector}}"
"""The legend of a detector's series; a label that is absent leaves no trace."""

WORST = 10
"""How many groups a panel shows that would show all of them."""


@dataclass(frozen=True)
class Selector:
    """Selects the series of a metric.

    The labels of a group hide those that Prometheus adds to what it scrapes. So where `instance` is
    the label of a group, the variable `instance` chooses groups and `daemon` chooses daemons.

    Attributes:
        prefix: that of the metrics about groups.
        group_by: the labels of the groups.
        scope: the labels that keep incidents apart.
    """

    prefix: str
    group_by: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()

    @staticmethod
    def of(deployment: Deployment) -> Selector:
        """The selector for the metrics of a daemon."""
        return Selector(deployment.prefix, deployment.group_by, deployment.scope)

    def __call__(self, metric: MetricSpec, *matchers: str) -> str:
        """A selector for a metric's series, as far as they are chosen on the dashboard.

        >>> Selector("my_")(names.SCORE)
        'my_score{job=~"$job", instance=~"$instance", detector=~"$detector"}'
        >>> Selector("my_", ("instance",))(names.SAMPLE_AGE)
        'promad_sample_age_seconds{job=~"$job", instance=~"$daemon", detector=~"$detector"}'
        """
        name = metric.full_name(self.prefix)
        if metric.subject is Subject.PROCESS:
            return self.select_process(name, *matchers)
        if metric.subject is Subject.DETECTOR:
            return self.select_detector(name, *matchers)
        own = self.scope if metric in names.INCIDENT_METRICS else self.group_by
        return self._write(name, own, DETECTOR, *matchers)

    def select_process(self, name: str, *matchers: str) -> str:
        """A selector for series that each running promad has, by their whole name.

        >>> Selector("my_").select_process("up")
        'up{job=~"$job", instance=~"$instance"}'
        """
        return self._write(name, (), *matchers)

    def select_detector(self, name: str, *matchers: str) -> str:
        """A selector for series that each detector has, by their whole name."""
        return self.select_process(name, DETECTOR, *matchers)

    def select_scope(self, name: str) -> str:
        """A selector for series that each scope of incidents has, by their whole name."""
        return self._write(name, self.scope, DETECTOR)

    def _write(self, name: str, own: tuple[str, ...], *matchers: str) -> str:
        """A selector for series that have the labels `own` of a group or a scope."""
        target = [
            f'{label}=~"${label if label in own else variable}"'
            for label, variable in self.target.items()
        ]
        rest = [f'{label}=~"${name_variable(label)}"' for label in own if label not in self.target]
        return f"{name}{{{', '.join((*target, *rest, *matchers))}}}"

    @property
    def target(self) -> Mapping[str, str]:
        """The labels that Prometheus adds to what it scrapes, each with its variable."""
        return {
            "job": "daemon_job" if "job" in self.group_by else "job",
            "instance": "daemon" if "instance" in self.group_by else "instance",
        }

    @property
    def identity(self) -> str:
        """The labels that tell the series of two groups apart."""
        return ", ".join(dict.fromkeys((*self.target, "detector", *self.group_by)))

    @property
    def legend(self) -> str:
        """The legend of a group's series."""
        shown = [name for name in self.group_by if name != "instance"]
        return " ".join([*(f"{{{{{name}}}}}" for name in shown), LEGEND])

    @property
    def by_detector(self) -> str:
        """How to aggregate groups to one value for each detector."""
        shared = [label for label in (*self.target, "detector") if label not in self.group_by]
        return f"by ({', '.join(shared)})"

    def limit(self, expr: str, groups: int = WORST) -> str:
        """The values of those groups with the highest scores in the selected time range.

        Without `group_by` there are few groups: all values.
        """
        if not self.group_by:
            return expr
        highest = f"max_over_time({self(names.SCORE)}[$__range] @ end())"
        others = f"0 * last_over_time({self(names.THRESHOLD)}[$__range] @ end())"
        return f"{expr} and on ({self.identity}) topk({groups}, {highest} or {others})"


def name_variable(label: str) -> str:
    """The name of the variable that chooses a label of the groups."""
    taken = {"datasource", "detector", "feature", "daemon", "daemon_job"}
    return f"group_{label}" if label in taken else label


def number_states(select: Selector) -> str:
    """Each group's state as a number: its place in `State`, from 0."""
    numbered = (
        f"{select(names.STATE, f'state="{state}"')} * {place}" for place, state in enumerate(State)
    )
    return f"sum without (state) ({' or '.join(numbered)})"


def compute_rate(counter: str) -> str:
    """The rate per second of a counter's selector."""
    return f"rate({counter}[$__rate_interval])"
