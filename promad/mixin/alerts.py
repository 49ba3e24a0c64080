"""The alerts of a daemon, and the conditions and texts of those about detectors and groups.

An alert on a series that promad withdraws ends with it, so each way in which detection can stop has
an alert of its own: a blind group, stale samples, a daemon that is down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum

from promad.config import format_duration
from promad.events.verdict import State
from promad.exposition import names
from promad.mixin.alert import (
    CRITICAL,
    DETECTOR_NAME,
    KEEP_FIRING_SECONDS,
    SEVERE_RATIO,
    SEVERE_SAMPLES,
    WARNING,
    Alert,
    choose_patience,
    choose_severe_seconds,
    describe_budget,
)
from promad.mixin.alert_templates import (
    template_blindness,
    template_explanation,
    template_group,
    template_group_name,
)
from promad.mixin.deployment import Deployment
from promad.mixin.incident_alerts import (
    build_groups_blind,
    build_groups_stale,
    build_incident,
    build_refused,
    build_severe_incident,
)
from promad.mixin.joined import (
    build_joined_blind,
    build_joined_incident,
    build_joined_severe,
    build_shard_missing,
)
from promad.mixin.rules import Rule

OVERRUN_SHARE = 0.1
"""The acceptable share of skipped ticks."""

OLD_DAYS = 30
"""The age from which a model is old."""

_DETECTOR = "job, instance, detector"
_IS_BLIND = f'state="{State.BLIND}"'


class AlertScope(StrEnum):
    """What an alert about anomalies of a detector with `group_by` is about."""

    INCIDENTS = "incidents"
    PER_GROUP = "per-group"


_Builder = Callable[[Deployment], Alert]
_Part = tuple[Deployment | None, tuple[_Builder, ...]]


def build_alert_rules(
    deployment: Deployment, scope: AlertScope = AlertScope.INCIDENTS
) -> Mapping[str, Sequence[Rule]]:
    """The rules by the name of their rule group.

    Args:
        scope: what alerts about detectors with `group_by` are about.
    """
    single, fleet = deployment.choose(grouped=False), deployment.choose(grouped=True)
    of_groups: tuple[_Builder, ...] = (_build_anomaly, _build_severe)
    by_incident: tuple[_Builder, ...] = (build_incident, build_severe_incident)
    blind = build_groups_blind
    if deployment.several:
        by_incident, blind = (build_joined_incident, build_joined_severe), build_joined_blind
    per_group = scope is AlertScope.PER_GROUP
    groups: dict[str, tuple[_Part, ...]] = {
        "anomalies": ((single, of_groups), (fleet, of_groups if per_group else by_incident)),
        "silence": (
            (single, (_build_blind, _build_stale)),
            (fleet, (_build_blind if per_group else blind, build_groups_stale)),
            (deployment, (_build_down,)),
            (fleet if deployment.several else None, (build_shard_missing,)),
        ),
        "upkeep": (
            (fleet, (build_refused,)),
            (deployment, (_build_overrun, _build_reload_failed, _build_old)),
        ),
    }
    return {f"promad-{name}": list(_build_rules(parts)) for name, parts in groups.items()}


def _build_rules(parts: Sequence[_Part]) -> Iterator[Rule]:
    for deployment, alerts in parts:
        if deployment is not None:
            for build in alerts:
                yield build(deployment).to_rule(deployment.runbook_url)


def _build_anomaly(deployment: Deployment) -> Alert:
    return Alert(
        "PromadAnomaly",
        "No `for`: an event begins only after several consecutive samples above the threshold. "
        + describe_budget(deployment),
        f"{deployment.select(names.IS_ANOMALY)} == 1",
        WARNING,
        f"Detector {DETECTOR_NAME} reports an anomaly{template_group(deployment.group_by)}",
        template_explanation(deployment.prefix, deployment.group_identity),
        keep=KEEP_FIRING_SECONDS,
        link=_link_page(deployment),
    )


def _build_severe(deployment: Deployment) -> Alert:
    score, flag = deployment.select(names.SCORE), deployment.select(names.IS_ANOMALY)
    return Alert(
        "PromadAnomalySevere",
        f"A score above {SEVERE_RATIO} times the threshold for {SEVERE_SAMPLES} samples. "
        "PromadAnomaly fires too; inhibit it in Alertmanager with "
        f"equal: [{', '.join(deployment.group_identity)}].",
        f"{score} > {SEVERE_RATIO}\nand\n{flag} == 1",
        CRITICAL,
        f"Detector {DETECTOR_NAME} reports a severe anomaly{template_group(deployment.group_by)}",
        template_explanation(deployment.prefix, deployment.group_identity),
        after=choose_severe_seconds(deployment),
        keep=KEEP_FIRING_SECONDS,
        link=_link_page(deployment),
    )


def _build_blind(deployment: Deployment) -> Alert:
    after, shared = choose_patience(deployment), deployment.shared_identity
    return Alert(
        "PromadBlind",
        "While a group is blind, its score and its anomaly flag are absent, so alerts on them "
        "cannot fire. A warming group is not blind: it gets a score once its window of samples is "
        "full.",
        f"{deployment.select(names.STATE, _IS_BLIND)} == 1",
        WARNING,
        f"Detector {DETECTOR_NAME} is blind{template_group(deployment.group_by)}",
        template_blindness(
            f"No score for at least {format_duration(after)}: anomalies go undetected.",
            deployment.prefix,
            deployment.group_identity,
            shared,
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
        WARNING,
        f"Detector {DETECTOR_NAME} has stale data",
        "The newest sample of a query, or the newest score, is {{ humanizeDuration $value }} old. "
        "The score leaves out features without a current sample.",
        after=choose_patience(deployment),
    )


def _build_down(deployment: Deployment) -> Alert:
    up, info = deployment.select_name("up"), deployment.select(names.BUILD_INFO)
    return Alert(
        "PromadDown",
        "A scrape fails, something other than promad answers it, or the job has no target. No "
        "other alert can fire then.",
        f"{up} unless on (job, instance) {info}\nor\nabsent({up})",
        CRITICAL,
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
        WARNING,
        f"Detector {DETECTOR_NAME} skips ticks",
        "{{ humanizePercentage $value }} of the ticks were skipped because the previous tick was "
        "still running. Anomalies are detected late.",
        after=1.5 * over,
    )


def _build_reload_failed(deployment: Deployment) -> Alert:
    return Alert(
        "PromadConfigReloadFailed",
        "The daemon continues with its previous configuration. `for` leaves time to fix the file "
        "and reload.",
        f"{deployment.select(names.RELOAD_SUCCEEDED)} == 0 or "
        f"{deployment.select(names.WEB_CONFIG_SUCCEEDED)} == 0",
        WARNING,
        "promad could not reload its configuration",
        "{{ $labels.instance }} still runs with its previous configuration and bundles, or its "
        "previous web configuration. The log names the error.",
        after=300.0,
    )


def _build_old(deployment: Deployment) -> Alert:
    return Alert(
        "PromadBundleOld",
        "The threshold assumes that new data resembles the training data.",
        f"time() - {deployment.select(names.MODEL_TRAINED)} > {OLD_DAYS} * 86400",
        WARNING,
        f"Detector {DETECTOR_NAME} uses an old model",
        "The model was trained {{ humanizeDuration $value }} ago and does not reflect later "
        "changes of the system. Train it again.",
        after=3600.0,
    )


def _link_page(deployment: Deployment) -> str:
    if deployment.external_url is None:
        return ""
    return f"{deployment.external_url}/?group={template_group_name(deployment.group_by)}"
