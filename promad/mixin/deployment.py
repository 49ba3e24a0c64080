"""`Deployment`: what rules and dashboards need from the configurations of one daemon."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from promad.config import Config, RealTimeSettings
from promad.errors import ConfigError
from promad.exposition.names import MetricSpec


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

    @classmethod
    def from_configs(cls, configs: Sequence[Config], job: str) -> Deployment:
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
        )

    def select(self, metric: MetricSpec, *matchers: str) -> str:
        """A PromQL selector for the series of a metric of this daemon."""
        return self.select_name(metric.full_name(self.prefix), *matchers)

    def select_name(self, name: str, *matchers: str) -> str:
        """The same for a name that is not promad's own, or that a recording rule has recorded."""
        job = f"job={json.dumps(self.job, ensure_ascii=False)}"
        return f"{name}{{{', '.join((job, *matchers))}}}"


def _find_window(config: Config) -> float:
    return config.training_settings.sequence_length * config.data_settings.step


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
