"""The alerts: their conditions and their texts.

An alert on a series that promad withdraws ends with it, so each way in which detection can stop has
an alert of its own: a blind group, stale samples, a daemon that is down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promad.config import format_duration
from promad.events.verdict import State
from promad.exposition import names
from promad.mixin.alert_templates import template_blindness, template_explanation
from promad.mixin.deployment import Deployment
from promad.mixin.rules import Rule

SEVERE_RATIO = 3
"""Above this score over threshold an anomaly is severe."""

SEVERE_SAMPLES = 4
"""For how many samples the score must be that high."""

KEEP_FIRING_SECONDS = 600.0
"""An anomaly that ends and begins again within this time is one notification."""

OVERRUN_SHARE = 0.1
"""The acceptable share of skipped ticks."""

OLD_DAYS = 30
"""The age from which a model is old."""

_WARNING, _CRITICAL = "warning", "critical"
_DETECTOR = "job, instance, detector"
_DETECTOR_NAME = "{{ $labels.detector }}"
_IS_BLIND = f'state="{State.BLIND}"'


@dataclass(frozen=True)
class Alert:
    """One alert.

    Attributes:
        name: its name, which is also the heading of its section in docs/runbooks.md.
        why: the reason for its condition, as a comment.
        expr: PromQL that has a value while the condition holds.
        severity: `critical` should page someone, `warning` should not.
        summary: the problem in one short line.
        description: the details, and the effect.
        after: seconds for which the condition must hold before the alert fires.
        keep: seconds for which it keeps firing afterwards.
        link: the daemon's page about it, if its address is known.
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

    def to_rule(self, runbook_url: str) -> Rule:
        """The alert as a rule that names its runbook.

        Only a URL becomes `runbook_url`: Alertmanager and Grafana make that annotation a link.
        """
        times = {"for": self.after, "keep_firing_for": self.keep}
        is_url = runbook_url.startswith(("http://", "https://"))
        content: dict[str, Any] = {
            "alert": self.name,
            "expr": self.expr,
            **{key: format_duration(seconds) for key, seconds in times.items() if seconds},
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url" if is_url else "runbook": f"{runbook_url}#{self.name.lower()}",
                **({"link": self.link} if self.link else {}),
            },
        }
        return Rule(self.why, content)


def build_alert_rules(deployment: Deployment) -> Mapping[str, Sequence[Rule]]:
    """The rules by the name of their rule group."""
    groups = {
        "anomalies": (_build_anomaly, _build_severe),
        "silence": (_build_blind, _build_stale, _build_down),
        "upkeep": (_build_overrun, _build_reload_failed, _build_old),
    }
    return {
        f"promad-{name}": [build(deployment).to_rule(deployment.runbook_url) for build in alerts]
        for name, alerts in groups.items()
    }


def _build_anomaly(deployment: Deployment) -> Alert:
    budget = f"{deployment.false_alarms_per_week:g}"
    alarms = "one false alarm" if budget == "1" else f"{budget} false alarms"
    return Alert(
        "PromadAnomaly",
        "No `for`: an event begins only after several consecutive samples above the threshold. "
        f"The alert budget allows about {alarms} per week.",
        f"{deployment.select(names.IS_ANOMALY)} == 1",
        _WARNING,
        f"Detector {_DETECTOR_NAME} reports an anomaly",
        template_explanation(deployment.prefix),
        keep=KEEP_FIRING_SECONDS,
        link=_link_page(deployment),
    )


def _build_severe(deployment: Deployment) -> Alert:
    score, flag = deployment.select(names.SCORE), deployment.select(names.IS_ANOMALY)
    return Alert(
        "PromadAnomalySevere",
        f"A score above {SEVERE_RATIO} times the threshold for {SEVERE_SAMPLES} samples. "
        "PromadAnomaly fires too; inhibit it in Alertmanager with equal: [job, instance, "
        "detector].",
        f"{score} > {SEVERE_RATIO}\nand\n{flag} == 1",
        _CRITICAL,
        f"Detector {_DETECTOR_NAME} reports a severe anomaly",
        template_explanation(deployment.prefix),
        after=SEVERE_SAMPLES * max(deployment.step, deployment.interval),
        keep=KEEP_FIRING_SECONDS,
        link=_link_page(deployment),
    )


def _build_blind(deployment: Deployment) -> Alert:
    after = _choose_patience(deployment)
    return Alert(
        "PromadBlind",
        "While a group is blind, its score and its anomaly flag are absent, so alerts on them "
        "cannot fire. A warming group is not blind: it gets a score once its window of samples is "
        "full.",
        f"{deployment.select(names.STATE, _IS_BLIND)} == 1",
        _WARNING,
        f"Detector {_DETECTOR_NAME} is blind",
        template_blindness(
            f"No score for at least {format_duration(after)}: anomalies go undetected.",
            deployment.prefix,
        ),
        after=after,
    )


def _build_stale(deployment: Deployment) -> Alert:
    age = deployment.select(names.SAMPLE_AGE)
    scored = deployment.select(names.LAST_SCORED)
    blind = deployment.select(names.STATE, _IS_BLIND)
    oldest, unscored = deployment.oldest_sample, 3 * deployment.window
    return Alert(
        "PromadDataStale",
        f"A sample may be up to stale_after + latency_offset + step = {format_duration(oldest)} "
        f"old. After a gap, the next score needs a full window of "
        f"{format_duration(deployment.window)}, so {format_duration(unscored)} without a new score "
        "mean repeated gaps. PromadBlind covers blind groups.",
        f"(\n  {age} > {oldest:g}\n  or\n"
        f"  time() - min by ({_DETECTOR}) ({scored}) > {unscored:g}\n)\n"
        f"unless on ({_DETECTOR})\n{blind} == 1",
        _WARNING,
        f"Detector {_DETECTOR_NAME} has stale data",
        "The newest sample of a query, or the newest score, is {{ humanizeDuration $value }} old. "
        "The score leaves out features without a current sample.",
        after=_choose_patience(deployment),
    )


def _build_down(deployment: Deployment) -> Alert:
    up, info = deployment.select_name("up"), deployment.select(names.BUILD_INFO)
    return Alert(
        "PromadDown",
        "A scrape fails, something other than promad answers it, or the job has no target. No "
        "other alert can fire then.",
        f"{up} unless on (job, instance) {info}\nor\nabsent({up})",
        _CRITICAL,
        "promad is down",
        "{{ if $labels.instance }}promad does not respond at {{ $labels.instance }}"
        "{{ else }}Prometheus has no target for the job {{ $labels.job }}{{ end }}. "
        "Anomalies go undetected.",
        after=300.0,
    )


def _build_overrun(deployment: Deployment) -> Alert:
    over = max(600.0, 10 * deployment.interval)
    range_ = f"[{format_duration(over)}]"
    skipped = f"rate({deployment.select(names.TICKS_SKIPPED)}{range_})"
    done = f"rate({deployment.select(names.TICK_DURATION.count)}{range_})"
    return Alert(
        "PromadTickOverrun",
        "`for` is longer than the range of the rates, so that a single pause, as of a suspended "
        "machine, does not fire.",
        f"{skipped}\n/\n({skipped} + {done})\n> {OVERRUN_SHARE:g}",
        _WARNING,
        f"Detector {_DETECTOR_NAME} skips ticks",
        "{{ humanizePercentage $value }} of the ticks were skipped because the previous tick was "
        "still running. Anomalies are detected late.",
        after=1.5 * over,
    )


def _build_reload_failed(deployment: Deployment) -> Alert:
    return Alert(
        "PromadConfigReloadFailed",
        "The daemon continues with its previous configuration. `for` leaves time to fix the file "
        "and reload.",
        f"{deployment.select(names.RELOAD_SUCCEEDED)} == 0",
        _WARNING,
        "promad could not reload its configuration",
        "{{ $labels.instance }} still runs with its previous configuration and bundles. The log "
        "names the error.",
        after=300.0,
    )


def _build_old(deployment: Deployment) -> Alert:
    return Alert(
        "PromadBundleOld",
        "The threshold assumes that new data resembles the training data.",
        f"time() - {deployment.select(names.MODEL_TRAINED)} > {OLD_DAYS} * 86400",
        _WARNING,
        f"Detector {_DETECTOR_NAME} uses an old model",
        "The model was trained {{ humanizeDuration $value }} ago and does not reflect later "
        "changes of the system. Train it again.",
        after=3600.0,
    )


def _choose_patience(deployment: Deployment) -> float:
    """Seconds without new samples after which it is unlikely that they resume by themselves."""
    return max(600.0, 5 * max(deployment.interval, deployment.step))


def _link_page(deployment: Deployment) -> str:
    if deployment.external_url is None:
        return ""
    return f"{deployment.external_url}/?group={{{{ $labels.detector | urlquery }}}}"
