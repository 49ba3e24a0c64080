"""`Deployment`: what rules and dashboards must know of the configurations of one daemon."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from promad.config import Config, RealTimeSettings
from promad.errors import ConfigError
from promad.exposition import DAEMON_PREFIX


@dataclass(frozen=True)
class Deployment:
    """One daemon, as Prometheus scrapes it. Of times, those of its slowest detector.

    Attributes:
        job: what the scrape configuration calls it.
        prefix: what the names of the metrics about groups begin with.
        detectors: their names; series say which one only where there are several.
        interval: seconds from one poll to the next.
        step: seconds from one sample to the next.
        window: seconds of samples in a row that a score needs.
        oldest_sample: seconds that the newest sample of a query may be old.
        false_alarms_per_week: what all the alert budgets add up to.
        runbook_url: where the sections on the alerts stand.
        external_url: where a browser finds the daemon, if that is known.
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
    def of(cls, configs: Sequence[Config], job: str) -> Deployment:
        """The daemon that runs these detectors; links are those of the first.

        Raises:
            ConfigError: if their metrics' names begin differently.
        """
        live = [config.real_time_anomaly_detection for config in configs]
        steps = [config.data_settings.step for config in configs]
        return cls(
            job=job,
            prefix=_common_prefix(configs),
            detectors=tuple(config.name for config in configs),
            interval=max(each.query_interval_seconds for each in live),
            step=max(steps),
            window=max(map(_window, configs)),
            oldest_sample=max(map(_oldest_sample, live, steps)),
            false_alarms_per_week=sum(each.alert_budget.false_alarms_per_week for each in live),
            runbook_url=configs[0].web.runbook_url,
            external_url=configs[0].web.external_url,
        )

    @property
    def several(self) -> bool:
        """Whether series carry the label `detector`."""
        return len(self.detectors) > 1

    def of_group(self, name: str, *matchers: str) -> str:
        """A selector for series about groups, by their name without the prefix."""
        return self._select(self.prefix + name, matchers)

    def of_daemon(self, name: str, *matchers: str) -> str:
        """A selector for series about the daemon itself, by their name without the prefix."""
        return self._select(DAEMON_PREFIX + name, matchers)

    def of_recorded(self, name: str) -> str:
        """A selector for what a recording rule of that name has recorded."""
        return self._select(name, ())

    def up(self) -> str:
        """A selector for what Prometheus itself knows of the daemon."""
        return self._select("up", ())

    def _select(self, metric: str, matchers: Sequence[str]) -> str:
        job = f"job={json.dumps(self.job, ensure_ascii=False)}"
        return f"{metric}{{{', '.join((job, *matchers))}}}"


def _window(config: Config) -> float:
    return config.training_settings.sequence_length * config.data_settings.step


def _oldest_sample(live: RealTimeSettings, step: float) -> float:
    """How old the newest sample may be: read so far behind, and one step until the next."""
    return live.stale_after + live.latency_offset + step


def _common_prefix(configs: Sequence[Config]) -> str:
    names = {config.real_time_anomaly_detection.metrics_prefix: config.name for config in configs}
    if len(names) > 1:
        (one, here), (other, there) = list(names.items())[:2]
        raise ConfigError(
            [
                f"real_time_anomaly_detection.metrics_prefix: is {one} in {here} and {other} in "
                f"{there} — a mixin is for one prefix; make one for each"
            ]
        )
    return next(iter(names))
