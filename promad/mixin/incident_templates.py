"""The text of alerts about incidents, and about groups of a fleet, in Prometheus's templates."""

from __future__ import annotations

from promad.mixin.alert_templates import INSTANT, fill_in_metrics, match_labels, write_labels
from promad.mixin.deployment import Deployment

_INCIDENT = r"""
{{- range query (printf "@INCIDENT_OPEN@{%s} > 1" $incident) -}}
{{ .Value }} incidents are open. {{ end }}
{{- range query (printf "@INCIDENT_GROUPS@{%s}" $incident) }}
{{- .Value }} {{ if eq .Value 1.0 }}group{{ else }}groups{{ end }}{{ end }}
{{- range query (printf "100 * @INCIDENT_SPREAD@{%s}" $incident) -}}
{{- " " }}({{ printf "%.3g" .Value }}% of those monitored){{ end }}
{{- range query (printf "@INCIDENT_SINCE@{%s}" $incident) -}}
, anomalous since {{ template "instant" .Value }}{{ end }}.
{{- range query (printf "@INCIDENT_FIRST@{%s}" $groups) }} First group: @NAME@.{{ end }}
{{- $leading := printf "sort_desc(topk(3, 100 * @INCIDENT_SHARE@{%s} > 0))" $incident }}
{{- range $number, $feature := query $leading }}
{{- if $number }},{{ else }} Leading features:{{ end }} {{ $feature.Labels.feature_name }}
{{- printf " (%.0f%% of the deviation)" $feature.Value }}{{ end }}
{{- if query $leading }}.{{ end }}
"""

_IN_COMMON = r"""
{{- $common := printf "count by (@LABEL@) (@IS_ANOMALY@{%s} == 1)" $groups }}
{{- $all := printf "count(count by (@LABEL@) (@STATE@{%s})) > 1" $groups }}
{{- $several := printf "%s > 1 and on () (count(%s) == 1)" $common $common }}
{{- range query (printf "%s and on () (%s)" $several $all) -}}
{{- " " }}All of them have @NAME@.{{ end }}
"""
"""A label that all anomalous groups have in common, but not all monitored ones."""

_BLIND = r"""
{{- $blind := printf "topk(3, @STATE@{%s, state=\"blind\"} == 1)" $groups }}
{{- range $number, $group := query $blind | sortByLabel "@LABEL@" }}
{{- if $number }};{{ else }} Some of them:{{ end }} @NAME@{{ end }}.
"""


def template_incident(deployment: Deployment) -> str:
    """How many groups, which was the first, and what they have in common."""
    labels = [name for name in deployment.group_by if name not in deployment.scope]
    text = INSTANT + _name_groups(_INCIDENT, deployment).strip()
    for label in labels if len(labels) > 1 else ():
        common = _IN_COMMON.replace("@NAME@", write_labels(".Labels", [label]))
        text += common.replace("@LABEL@", label).rstrip()
    return _match(deployment) + fill_in_metrics(text, deployment.prefix)


def template_blind_groups(deployment: Deployment) -> str:
    """Some of the groups that are blind."""
    text = _name_groups(_BLIND, deployment).replace("@LABEL@", deployment.group_by[-1]).strip()
    return fill_in_metrics(text, deployment.prefix)


def _name_groups(template: str, deployment: Deployment) -> str:
    return template.replace("@NAME@", write_labels(".Labels", deployment.group_by))


def _match(deployment: Deployment) -> str:
    """Sets `$incident` and `$groups` to matchers for the series of the alert's scope."""
    incident = match_labels("incident", deployment.incident_identity)
    return incident + match_labels("groups", deployment.shared_identity)


def match_groups(deployment: Deployment) -> str:
    """Sets `$groups` to matchers for the groups of the alert's detector."""
    scope = set(deployment.scope)
    labels = [name for name in deployment.shared_identity if name not in scope]
    return match_labels("groups", labels)
