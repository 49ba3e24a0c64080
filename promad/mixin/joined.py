"""Rules for several daemons of one job: each group and each incident counts once.

Of the replicas of a shard, that counts which knows more: an incident that one of them has, a group
that one of them scores. An incident over several shards is one: those whose onsets are near each
other are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from promad.config import format_duration
from promad.events.verdict import State
from promad.exposition import names
from promad.exposition.names import MetricSpec
from promad.mixin.alert import (
    CRITICAL,
    DETECTOR_NAME,
    KEEP_FIRING_SECONDS,
    WARNING,
    Alert,
    describe_budget,
)
from promad.mixin.alert_templates import INSTANT, fill_in_metrics, match_labels, write_labels
from promad.mixin.deployment import Deployment
from promad.mixin.incident_alerts import MOST_OPEN, make_blind, make_severe, name_scope
from promad.mixin.rules import Rule

_MISSING_SECONDS = 300.0
_TEXT = r"""
{{- range query (printf "@GROUPS@{%s}" $incident) }}
{{- .Value }} {{ if eq .Value 1.0 }}group{{ else }}groups{{ end }}{{ end }}
{{- range query (printf "count(@OPEN@{%s} > 0) > 1" $incident) }} on {{ .Value }} shards{{ end }}
{{- range query (printf "min(@SINCE@{%s})" $incident) -}}
, anomalous since {{ template "instant" .Value }}{{ end }}.
{{- range query (printf "bottomk(1, max by (@LABELS@) (@FIRST@{%s}))" $groups) }} First group:
{{- " " }}@NAME@.{{ end }}
{{- $mean := printf "avg by (feature_name) (@INCIDENT_SHARE@{%s})" $incident }}
{{- $leading := printf "topk(3, 100 * %s > 0)" $mean }}
{{- range $number, $feature := query (printf "sort_desc(%s)" $leading) }}
{{- if $number }},{{ else }} Leading features:{{ end }} {{ $feature.Labels.feature_name }}
{{- printf " (%.0f%% of the deviation)" $feature.Value }}{{ end }}
{{- if query $leading }}.{{ end }}
"""


def name_shard_open(prefix: str) -> str:
    """The name of the number of incidents that are open in each shard."""
    return f"shard:{names.INCIDENT_OPEN.full_name(prefix)}:max"


def name_shard_since(prefix: str) -> str:
    """The name of the start of each shard's open incident."""
    return f"shard:{names.INCIDENT_SINCE.full_name(prefix)}:min"


def name_open(prefix: str) -> str:
    """The name of the number of incidents that are open over all shards."""
    return f"scope:{names.INCIDENT_OPEN.full_name(prefix)}:joined"


def name_groups(prefix: str) -> str:
    """The name of the number of groups in the open incidents over all shards."""
    return f"scope:{names.INCIDENT_GROUPS.full_name(prefix)}:sum"


def _list_scope(deployment: Deployment) -> tuple[str, ...]:
    """The labels that tell incidents apart, whichever daemon they are of."""
    return tuple(dict.fromkeys(("job", "detector", *deployment.scope)))


def _list_shared(labels: Sequence[str], deployment: Deployment) -> list[str]:
    """Those of the labels that the groups of an incident have too, with the same values."""
    hidden = set(deployment.group_by) - set(deployment.scope)
    return [label for label in labels if label not in hidden]


def _add_shard(deployment: Deployment, expr: str) -> str:
    """The series of an expression, each with the shard of its daemon as far as it has one.

    A label of the scope hides that of the daemon, but then each scope is in one shard.
    """
    if {"job", "instance"} & set(deployment.scope):
        return expr
    info = deployment.select(names.SHARD_INFO)
    on = "on (job, instance)"
    return f"({expr} * {on} group_left (shard) {info} or {expr} unless {on} {info})"


def record_joined(deployment: Deployment) -> Sequence[Rule]:
    """What is recorded of incidents over all daemons; each rule rests on those before it."""
    scope = ", ".join(_list_scope(deployment))

    def by_shard(function: str, metric: MetricSpec) -> str:
        found = _add_shard(deployment, deployment.select(metric))
        return f"{function} by ({scope}, shard) ({found})"

    open_ = deployment.select_recorded(name_shard_open(deployment.prefix))
    since = deployment.select_recorded(name_shard_since(deployment.prefix))
    join = deployment.join_within
    onset = f'count_values by ({scope}) ("onset", floor({since} / {join:g}))'
    later = f'count_values by ({scope}) ("onset", floor({since} / {join:g}) + 1)'
    largest = f"max by ({scope}) ({open_})"
    contents = (
        (
            "Incidents that are open in each shard, as the replica with most of them has it.",
            name_shard_open(deployment.prefix),
            by_shard("max", names.INCIDENT_OPEN),
        ),
        (
            "Start of each shard's open incident, as the replica has it that found it first.",
            name_shard_since(deployment.prefix),
            by_shard("min", names.INCIDENT_SINCE),
        ),
        (
            f"Incidents that are open over all shards. Those of several shards whose onsets are "
            f"within {format_duration(join)} (and at most {format_duration(2 * join)}) of each "
            "other are one.",
            name_open(deployment.prefix),
            f"count by ({scope}) (\n{onset}\nunless\n{later}\n)\n"
            f"+ on ({scope}) clamp_min({largest} - 1, 0)\nor on ({scope})\n{largest}",
        ),
        (
            "Groups in open incidents over all shards.",
            name_groups(deployment.prefix),
            f"sum by ({scope}) ({by_shard('max', names.INCIDENT_GROUPS)})",
        ),
    )
    return [Rule(why, {"record": name, "expr": expr}) for why, name, expr in contents]


def build_joined_incident(deployment: Deployment) -> Alert:
    """An alert for each open incident of a scope over all daemons, up to `MOST_OPEN`."""
    open_ = deployment.select_recorded(name_open(deployment.prefix))
    ranks = (
        f'label_replace({open_} >= {rank}, "open_incident", "{rank}", "", "")'
        for rank in range(1, MOST_OPEN + 1)
    )
    return Alert(
        "PromadIncident",
        "Events that begin together are one incident, on however many shards and replicas, so "
        "this is one alert for any number of groups. The label open_incident gives an incident "
        "that begins while another is open an alert of its own, up to "
        f"{MOST_OPEN}. {describe_budget(deployment)}",
        "\nor\n".join(ranks),
        WARNING,
        f"Detector {DETECTOR_NAME} reports an incident{name_scope(deployment)}",
        _describe(deployment),
        keep=KEEP_FIRING_SECONDS,
        link=deployment.external_url or "",
    )


def build_joined_severe(deployment: Deployment) -> Alert:
    """An alert for the open incidents of a scope with a high score."""
    scope = _list_scope(deployment)
    is_open = deployment.select_recorded(name_open(deployment.prefix))
    shared = _list_shared(scope, deployment)
    return make_severe(deployment, is_open, scope, shared, _describe(deployment))


def build_joined_blind(deployment: Deployment) -> Alert:
    """An alert for many groups that are blind in every replica, or none that is monitored."""
    counts = deployment.select(names.GROUPS)
    blind = deployment.select(names.GROUPS, f'state="{State.BLIND}"')
    by = "by (job, detector, shard)"
    whole = _add_shard(deployment, f"sum by (job, instance, detector) ({counts})")
    groups = f"sum by (job, detector) (max {by} ({whole}))"
    unseen = f"sum by (job, detector) (min {by} ({_add_shard(deployment, blind)}))"
    return make_blind(
        deployment,
        f"{unseen}\n/\n{groups}",
        groups,
        "blind in every replica of their shard",
        match_labels("groups", _list_shared(("job", "detector"), deployment)),
    )


def build_shard_missing(deployment: Deployment) -> Alert:
    """An alert for a shard that no daemon has, or daemons that disagree on their number."""
    info, count = deployment.select(names.SHARD_INFO), deployment.select(names.SHARDS)
    present = f"count by (job) (count by (job, shard) ({info}))"
    return Alert(
        "PromadShardMissing",
        "Each shard needs a daemon, and all daemons need the same number of shards. While that "
        "number is changed, they disagree.",
        f"{present} < max by (job) ({count})\nor\nmin by (job) ({count}) != max by (job) ({count})",
        CRITICAL,
        "The shards of promad do not cover all groups",
        "{{ $value }} {{ if eq $value 1.0 }}shard has{{ else }}shards have{{ end }} a daemon, of "
        f"the number that {names.SHARDS.name} shows. Anomalies of the other groups go undetected.",
        after=_MISSING_SECONDS,
    )


def _describe(deployment: Deployment) -> str:
    """How many groups on how many shards, which was the first, and the features."""
    prefix, scope = deployment.prefix, _list_scope(deployment)
    text = _TEXT.strip()
    for place, name in (
        ("@GROUPS@", name_groups(prefix)),
        ("@OPEN@", name_shard_open(prefix)),
        ("@SINCE@", name_shard_since(prefix)),
        ("@FIRST@", names.ANOMALOUS_SINCE.full_name(prefix)),
        ("@LABELS@", ", ".join(deployment.group_by)),
        ("@NAME@", write_labels(".Labels", deployment.group_by)),
    ):
        text = text.replace(place, name)
    return (
        match_labels("incident", scope)
        + match_labels("groups", _list_shared(scope, deployment))
        + fill_in_metrics(INSTANT + text, prefix)
    )
