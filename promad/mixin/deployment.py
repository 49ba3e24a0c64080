"""`Deployment`: what rules and dashboards need from the configurations of one daemon."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from promad.config import Config, RealTimeSettings
from promad.errors import ConfigError
from promad.exposition.names import INCIDENT_METRICS, MetricSpec, Subject

TARGET_LABELS = ("job", "instance")
"""The labels that Prometheus adds to what it scrapes, where promad's series do not have them."""


@dataclass(frozen=True)
class Deployment:
    """One daemon as Prometheus scrapes it, with the times of its slowest detector.

    Attributes:
        job: the name of its job in the scrape configuration.
        prefix: the prefix of metrics about groups.
        detectors: their names, which are the values of the label `detector`.
        interval: seconds from one poll to the next.
        step: seconds from one sample to the next.
        window: seconds of consecutive samples that a score needs.
        oldest_sample: the age in seconds that the newest sample of a query may have.
        false_alarms_per_week: the sum of all alert budgets.
        runbook_url: the page with a section for each alert.
        external_url: the address of the daemon for a browser, if it is known.
        group_by: the labels of the groups, of all detectors.
        scope: the labels that keep incidents apart, of all detectors.
        only: the detectors that selectors are restricted to; None if the daemon has no other.
        join_within: seconds between the onsets of one incident in several daemons.
        several: whether the job has several daemons, shards or replicas, which count as one.
        configs: the configurations.
    """

    job: str
    prefix: str
    detectors: tuple[str, ...]
    interval: float
    step: float
    window: float
    oldest_sample: float
    false_alarms_per_week: float
    runbook_url: str
    external_url: str | None
    group_by: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    join_within: float = 900.0
    several: bool = False
    configs: tuple[Config, ...] = field(default=(), repr=False)

    @classmethod
    def from_configs(
        cls, configs: Sequence[Config], job: str, *, several: bool = False
    ) -> Deployment:
        """The daemon that runs these detectors, with the links of the first.

        Raises:
            ConfigError: if their metrics have different prefixes.
        """
        live = [config.real_time_anomaly_detection for config in configs]
        steps = [config.data_settings.step for config in configs]
        return cls(
            job=job,
            prefix=_find_common_prefix(configs),
            detectors=tuple(config.name for config in configs),
            interval=max(each.query_interval_seconds for each in live),
            step=max(steps),
            window=max(map(_find_window, configs)),
            oldest_sample=max(map(_find_oldest_sample, live, steps)),
            false_alarms_per_week=sum(each.alert_budget.false_alarms_per_week for each in live),
            runbook_url=configs[0].web.runbook_url,
            external_url=configs[0].web.external_url,
            group_by=_list_once(label for config in configs for label in config.group_by),
            scope=_list_once(label for config in configs for label in config.incidents.scope),
            join_within=max(map(_find_join, configs, steps)),
            several=several,
            configs=tuple(configs),
        )

    def choose(self, *, grouped: bool) -> Deployment | None:
        """The part that is about detectors with, or without, `group_by`; None if there is none."""
        chosen = [config for config in self.configs if bool(config.group_by) is grouped]
        if not chosen or len(chosen) == len(self.configs):
            return self if chosen else None
        only = tuple(config.name for config in chosen)
        chosen_part = Deployment.from_configs(chosen, self.job, several=self.several)
        return replace(chosen_part, only=only)

    @property
    def group_identity(self) -> tuple[str, ...]:
        """The labels that tell the series of two groups apart."""
        return _list_once((*TARGET_LABELS, "detector", *self.group_by))

    @property
    def incident_identity(self) -> tuple[str, ...]:
        """The labels that tell the series of two scopes apart."""
        return _list_once((*TARGET_LABELS, "detector", *self.scope))

    @property
    def shared_identity(self) -> tuple[str, ...]:
        """The labels by which groups and their incidents belong together.

        A label of the groups hides that of the scraped daemon, which their incidents have.
        """
        hidden = set(self.group_by) - set(self.scope)
        return tuple(label for label in self.incident_identity if label not in hidden)

    def select(self, metric: MetricSpec, *matchers: str) -> str:
        """A PromQL selector for the series of a metric of this daemon."""
        name = metric.full_name(self.prefix)
        own = self.scope if metric in INCIDENT_METRICS else self.group_by
        if metric.subject is Subject.GROUP and "job" in own:
            return _write_selector(name, _match_names(self.only or self.detectors), *matchers)
        only = (
            [_match_names(self.only)] if self.only and metric.subject is not Subject.PROCESS else []
        )
        return self.select_name(name, *only, *matchers)

    def select_recorded(self, name: str) -> str:
        """A selector for what a recording rule has recorded about these detectors."""
        return self.select_name(name, *([_match_names(self.only)] if self.only else ()))

    def select_name(self, name: str, *matchers: str) -> str:
        """A selector for a name that is not promad's own."""
        job = f"job={json.dumps(self.job, ensure_ascii=False)}"
        return _write_selector(name, job, *matchers)


def _write_selector(name: str, *matchers: str) -> str:
    return f"{name}{{{', '.join(matchers)}}}"


def _match_names(names: Sequence[str]) -> str:
    """A matcher for the detectors with these names."""
    if len(names) == 1:
        return f"detector={json.dumps(names[0], ensure_ascii=False)}"
    return f"detector=~{json.dumps('|'.join(map(re.escape, names)), ensure_ascii=False)}"


def _list_once(labels: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(labels))


def _find_window(config: Config) -> float:
    return config.training_settings.sequence_length * config.data_settings.step


def _find_join(config: Config, step: float) -> float:
    """Seconds within which onsets are of one incident, if the same features deviate."""
    return max(config.incidents.join_seconds(step), config.incidents.join_similar_within)


def _find_oldest_sample(live: RealTimeSettings, step: float) -> float:
    """Seconds: samples are read this late, and the next one is a step away."""
    return live.stale_after + live.longest_latency_offset + step


def _find_common_prefix(configs: Sequence[Config]) -> str:
    names = {config.real_time_anomaly_detection.metrics_prefix: config.name for config in configs}
    if len(names) > 1:
        (one, here), (other, there) = list(names.items())[:2]
        raise ConfigError(
            [
                f"real_time_anomaly_detection.metrics_prefix: is {one} in {here} and {other} in "
                f"{there} — a mixin covers one prefix; run promad mixin once for each"
            ]
        )
    return next(iter(names))
