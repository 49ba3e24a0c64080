"""The alerts: when to wake somebody, and what to say then.

A series that promad withdraws ends whatever rests on it, so each way of going silent has an alert
of its own: a group that is blind, samples that are late, a daemon that is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

from promad.config import format_duration
from promad.mixin.alert_templates import blindness, paragraph
from promad.mixin.deployment import Deployment
from promad.mixin.rules import Rule

SEVERE_RATIO = 3
"""Score over threshold from which an anomaly is worth waking somebody."""

SEVERE_SAMPLES = 4
"""For how many samples it must be so."""

KEEP_FIRING_SECONDS = 600.0
"""An anomaly that ends and begins again within this is one notification."""

OVERRUN_SHARE = 0.1
"""The share of ticks left out that is still bearable."""

OLD_DAYS = 30
"""The age from which a model has seen too little of how the system is now."""

_WARNING, _CRITICAL = "warning", "critical"
_DETECTOR = "job, instance, detector"


@dataclass(frozen=True)
class Alert:
    """One alert.

    Attributes:
        name: its name, which is also the heading of its section in docs/runbooks.md.
        why: why it is as it is.
        expr: PromQL that has a value while something is wrong.
        severity: `critical` is for what should wake somebody.
        summary: what is wrong, in one short line.
        description: what is known about it.
        after: seconds that it must be so before the alert fires.
        keep: seconds that it goes on firing afterwards.
        link: the page about it, if there is one.
    """

    name: str
    why: str
    expr: str
    severity: str
    summary: str
    description: str
    after: float = 0.0
    keep: float = 0.0
    link: str = ""

    def rule(self, runbook_url: str) -> Rule:
        """The alert as a rule, with a link into the runbook."""
        times = {"for": self.after, "keep_firing_for": self.keep}
        content: dict[str, Any] = {
            "alert": self.name,
            "expr": self.expr,
            **{key: format_duration(seconds) for key, seconds in times.items() if seconds},
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{runbook_url}#{self.name.lower()}",
                **({"link": self.link} if self.link else {}),
            },
        }
        return Rule(self.why, content)


def alert_rules(deployment: Deployment) -> Mapping[str, Sequence[Rule]]:
    """The rules by their group's name."""
    anomalies = (_anomaly(deployment), _severe(deployment))
    silence = (_blind(deployment), _stale(deployment), _down(deployment))
    upkeep = (_overrun(deployment), _reload_failed(deployment), _old(deployment))
    groups = {"anomalies": anomalies, "silence": silence, "upkeep": upkeep}
    return {
        f"promad-{name}": [alert.rule(deployment.runbook_url) for alert in alerts]
        for name, alerts in groups.items()
    }


def _anomaly(deployment: Deployment) -> Alert:
    budget = f"{deployment.false_alarms_per_week:g}"
    return Alert(
        "PromadAnomaly",
        "No `for`: an event begins only once several samples in a row were above the threshold. "
        "The threshold was chosen for an alert budget, so expect this "
        f"{'once' if budget == '1' else f'{budget} times'} a week while nothing is wrong.",
        f"{deployment.of_group('is_anomaly_detected')} == 1",
        _WARNING,
        f"Detector {_who(deployment)} finds an anomaly",
        paragraph(deployment.prefix),
        keep=KEEP_FIRING_SECONDS,
        link=_page(deployment),
    )


def _severe(deployment: Deployment) -> Alert:
    score = deployment.of_group("score")
    return Alert(
        "PromadAnomalySevere",
        f"Far above the threshold for {SEVERE_SAMPLES} samples. PromadAnomaly fires too: have "
        "Alertmanager inhibit it, with equal: [job, instance, detector].",
        f"{score} > {SEVERE_RATIO}\nand\n{deployment.of_group('is_anomaly_detected')} == 1",
        _CRITICAL,
        f"Detector {_who(deployment)} finds a severe anomaly",
        paragraph(deployment.prefix),
        after=SEVERE_SAMPLES * max(deployment.step, deployment.interval),
        keep=KEEP_FIRING_SECONDS,
        link=_page(deployment),
    )


def _blind(deployment: Deployment) -> Alert:
    blind = 'state="blind"'
    after = _patience(deployment)
    return Alert(
        "PromadBlind",
        "Score and flag are withdrawn while a group is blind, so no alert on them can fire. A "
        "group that warms up is not blind: it will be scored once it has a window of samples.",
        f"{deployment.of_group('state', blind)} == 1",
        _WARNING,
        f"Detector {_who(deployment)} is blind",
        blindness(
            f"Nothing has been scored for at least {format_duration(after)}, so nothing odd "
            "would be noticed."
        ),
        after=after,
    )


def _stale(deployment: Deployment) -> Alert:
    age = deployment.of_daemon("sample_age_seconds")
    scored = deployment.of_group("last_successful_run_timestamp_seconds")
    blind = deployment.of_group("state", 'state="blind"')
    oldest, unscored = deployment.oldest_sample, 3 * deployment.window
    return Alert(
        "PromadDataStale",
        f"A sample may be stale_after + latency_offset + step = {format_duration(oldest)} old. "
        f"After a gap a window of {format_duration(deployment.window)} must fill again, so nothing "
        f"new scored for {format_duration(unscored)} means gap upon gap. Where the group is blind, "
        "PromadBlind says so.",
        f"(\n  {age} > {oldest:g}\n  or\n"
        f"  time() - min by ({_DETECTOR}) ({scored}) > {unscored:g}\n)\n"
        f"unless on ({_DETECTOR})\n{blind} == 1",
        _WARNING,
        f"Detector {_who(deployment)} reads old samples",
        "The newest sample of one of its queries, or the newest score, is "
        "{{ humanizeDuration $value }} old. What is late is left out of the score.",
        after=_patience(deployment),
    )


def _down(deployment: Deployment) -> Alert:
    up, info = deployment.up(), deployment.of_daemon("build_info")
    return Alert(
        "PromadDown",
        "A target that does not answer as promad, be it that the scrape fails or that something "
        "else answers there; or no target at all. Every other alert is silent then.",
        f"{up} unless on (job, instance) {info}\nor\nabsent({up})",
        _CRITICAL,
        "promad is down",
        "{{ if $labels.instance }}There is no promad at {{ $labels.instance }}"
        "{{ else }}Prometheus has no target of the job {{ $labels.job }}{{ end }}. "
        "Nothing that it watches is watched now.",
        after=300.0,
    )


def _overrun(deployment: Deployment) -> Alert:
    over = max(600.0, 10 * deployment.interval)
    range_ = f"[{format_duration(over)}]"
    skipped = f"rate({deployment.of_daemon('ticks_skipped_total')}{range_})"
    done = f"rate({deployment.of_daemon('tick_duration_seconds_count')}{range_})"
    return Alert(
        "PromadTickOverrun",
        "Longer than the range of the rates, so that one pause (a machine asleep) is not enough.",
        f"{skipped}\n/\n({skipped} + {done})\n> {OVERRUN_SHARE:g}",
        _WARNING,
        f"Detector {_who(deployment)} leaves ticks out",
        "{{ humanizePercentage $value }} of the ticks were left out, because the one before was "
        "not done in time.",
        after=1.5 * over,
    )


def _reload_failed(deployment: Deployment) -> Alert:
    return Alert(
        "PromadConfigReloadFailed",
        "The daemon goes on with what it had; whoever has just mended the file needs no alert.",
        f"{deployment.of_daemon('config_last_reload_successful')} == 0",
        _WARNING,
        "promad could not reload its configuration",
        "{{ $labels.instance }} still runs with the configuration and the bundles from before.",
        after=300.0,
    )


def _old(deployment: Deployment) -> Alert:
    trained = deployment.of_daemon("model_trained_timestamp_seconds")
    return Alert(
        "PromadBundleOld",
        "The threshold assumes that the coming weeks are like the history it was chosen on.",
        f"time() - {trained} > {OLD_DAYS} * 86400",
        _WARNING,
        f"Detector {_who(deployment)} has an old model",
        "It was trained {{ humanizeDuration $value }} ago and knows nothing of what has changed "
        "since.",
        after=3600.0,
    )


def _patience(deployment: Deployment) -> float:
    """Seconds without new samples that mend themselves often enough to wait for it."""
    return max(600.0, 5 * max(deployment.interval, deployment.step))


def _who(deployment: Deployment) -> str:
    return "{{ $labels.detector }}" if deployment.several else deployment.detectors[0]


def _page(deployment: Deployment) -> str:
    if deployment.external_url is None:
        return ""
    one = quote_plus(deployment.detectors[0])
    group = "{{ $labels.detector | urlquery }}" if deployment.several else one
    return f"{deployment.external_url}/?group={group}"
