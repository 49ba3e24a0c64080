"""The alerts of detectors with `group_by`: one for an incident, however many groups it has."""

from __future__ import annotations

from collections.abc import Sequence

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
from promad.mixin.alert_templates import write_labels
from promad.mixin.deployment import Deployment
from promad.mixin.incident_templates import match_groups, template_blind_groups, template_incident

BLIND_SHARE = 0.1
"""The acceptable share of blind groups: a few targets are down at any time."""

MOST_OPEN = 3
"""How many incidents that are open at once have alerts of their own."""

REFUSED_SECONDS = 600.0
"""How long groups must be refused: those of a deployment come before the old ones are forgotten."""

_IS_BLIND = f'state="{State.BLIND}"'
_DETECTOR = "job, instance, detector"


def build_incident(deployment: Deployment) -> Alert:
    """An alert for each open incident of a scope, up to `MOST_OPEN`."""
    open_ = deployment.select(names.INCIDENT_OPEN)
    ranks = (
        f'label_replace({open_} >= {rank}, "open_incident", "{rank}", "", "")'
        for rank in range(1, MOST_OPEN + 1)
    )
    return Alert(
        "PromadIncident",
        "Events that begin together are one incident, so this is one alert for any number of "
        "groups. The label open_incident gives an incident that begins while another is open an "
        f"alert of its own, up to {MOST_OPEN}. {describe_budget(deployment)}",
        "\nor\n".join(ranks),
        WARNING,
        f"Detector {DETECTOR_NAME} reports an incident{name_scope(deployment)}",
        template_incident(deployment),
        keep=KEEP_FIRING_SECONDS,
        link=deployment.external_url or "",
    )


def build_severe_incident(deployment: Deployment) -> Alert:
    """An alert for the open incidents of a scope with a high score."""
    return make_severe(
        deployment,
        deployment.select(names.INCIDENT_OPEN),
        deployment.incident_identity,
        deployment.shared_identity,
        template_incident(deployment),
    )


def make_severe(
    deployment: Deployment, is_open: str, identity: Sequence[str], shared: Sequence[str], text: str
) -> Alert:
    """An alert for open incidents with a high score.

    Args:
        is_open: PromQL, above 0 while an incident is open.
        identity: the labels that tell its incidents apart.
        shared: those of them that the series of groups have too.
        text: the description.
    """
    by = ", ".join(shared)
    score, flag = deployment.select(names.SCORE), deployment.select(names.IS_ANOMALY)
    return Alert(
        "PromadIncidentSevere",
        f"A group with an open event scores above {SEVERE_RATIO} times the threshold for "
        f"{SEVERE_SAMPLES} samples. PromadIncident fires too; inhibit it in Alertmanager with "
        f"equal: [{', '.join(identity)}].",
        f"{is_open} > 0\nand on ({by})\nmax by ({by}) ({score} and {flag} == 1) > {SEVERE_RATIO}",
        CRITICAL,
        f"Detector {DETECTOR_NAME} reports a severe incident{name_scope(deployment)}",
        text,
        after=choose_severe_seconds(deployment),
        keep=KEEP_FIRING_SECONDS,
        link=deployment.external_url or "",
    )


def build_groups_blind(deployment: Deployment) -> Alert:
    """An alert for many blind groups, or none at all that are monitored."""
    groups = f"sum by ({_DETECTOR}) ({deployment.select(names.GROUPS)})"
    return make_blind(
        deployment, _divide_blind(deployment), groups, "blind", match_groups(deployment)
    )


def make_blind(deployment: Deployment, share: str, groups: str, which: str, match: str) -> Alert:
    """An alert for many blind groups, or none at all that are monitored.

    Args:
        share: PromQL for the share that is blind.
        groups: PromQL for how many there are.
        which: the groups that count as blind.
        match: sets `$groups` to matchers for the groups of the alert's detector.
    """
    after = choose_patience(deployment)
    return Alert(
        "PromadGroupsBlind",
        f"Share of the groups that are {which}, or 0 if there are no groups at all. Below "
        f"{BLIND_SHARE:.0%}, single targets are down: alerts on `up` cover them.",
        f"{share} > {BLIND_SHARE:g}\nor\n{groups} == 0",
        WARNING,
        f"Detector {DETECTOR_NAME} has blind groups",
        f"{match}"
        "{{ if eq $value 0.0 }}No group is monitored: the queries fail or return no series."
        "{{ else }}{{ humanizePercentage $value }} of the groups have had no score for at least "
        f"{format_duration(after)}: their anomalies go undetected."
        f"{template_blind_groups(deployment)}{{{{ end }}}}",
        after=after,
    )


def build_groups_stale(deployment: Deployment) -> Alert:
    """An alert for samples that are too old, or that never give a score."""
    age, scored = deployment.select(names.SAMPLE_AGE), deployment.select(names.LAST_SCORED)
    oldest, unscored = deployment.oldest_sample, 3 * deployment.window
    return Alert(
        "PromadDataStale",
        f"A sample may be up to stale_after + latency_offset + step = {format_duration(oldest)} "
        f"old. After a gap, the next score needs a full window of "
        f"{format_duration(deployment.window)}, so {format_duration(unscored)} without a new score "
        "of any group mean repeated gaps. PromadGroupsBlind covers blind groups.",
        f"(\n  {age} > {oldest:g}\n  or\n"
        f"  time() - max by (detector) ({scored}) > {unscored:g}\n)\n"
        f"unless on (detector)\n{_divide_blind(deployment)} > {BLIND_SHARE:g}",
        WARNING,
        f"Detector {DETECTOR_NAME} has stale data",
        "The newest sample of a query, or the newest score, is {{ humanizeDuration $value }} old. "
        "The scores leave out features without a current sample.",
        after=choose_patience(deployment),
    )


def build_refused(deployment: Deployment) -> Alert:
    """An alert for groups that are not monitored."""
    return Alert(
        "PromadGroupsRefused",
        "The queries return more groups than max_groups. Those that are monitored stay; new ones "
        "are refused.",
        f"{deployment.select(names.GROUPS_REFUSED)} > 0",
        WARNING,
        f"Detector {DETECTOR_NAME} refuses groups",
        "{{ $value }} {{ if eq $value 1.0 }}group is{{ else }}groups are{{ end }} not monitored, "
        "because there are max_groups already. Their anomalies go undetected.",
        after=REFUSED_SECONDS,
    )


def _divide_blind(deployment: Deployment) -> str:
    """The share of each detector's groups that are blind."""
    blind, groups = deployment.select(names.GROUPS, _IS_BLIND), deployment.select(names.GROUPS)
    return f"sum by ({_DETECTOR}) ({blind}) / sum by ({_DETECTOR}) ({groups})"


def name_scope(deployment: Deployment) -> str:
    """The scope of an incident, to follow a summary."""
    return f": {write_labels('$labels', deployment.scope)}" if deployment.scope else ""
