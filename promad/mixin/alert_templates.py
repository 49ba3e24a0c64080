"""The text of alerts in Prometheus's template language: that of `promad.events.explanation`.

The daemon writes it to its log, its page and its reports; Prometheus renders the same text from the
metrics of the group that an alert is about. Tests hold the two equal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from promad.exposition import names

_METRICS = {
    "SCORE": names.SCORE,
    "SINCE": names.ANOMALOUS_SINCE,
    "SHARE": names.FEATURE_CONTRIBUTION,
    "ELEVATION": names.FEATURE_ELEVATION,
    "OBSERVED": names.FEATURE_OBSERVED,
    "EXPECTED": names.FEATURE_EXPECTED,
    "LARGEST_AT": names.FEATURE_LARGEST_AT,
    "LARGEST_OBSERVED": names.FEATURE_LARGEST_OBSERVED,
    "LARGEST_EXPECTED": names.FEATURE_LARGEST_EXPECTED,
    "LARGEST_ELEVATION": names.FEATURE_LARGEST_ELEVATION,
    "LAST_SCORED": names.LAST_SCORED,
    "DEVIATING": names.FEATURE_DEVIATING_SINCE,
    "KNOWN": names.KNOWN_FEATURES,
    "QUERY_UP": names.QUERY_UP,
    "STATE": names.STATE,
    "IS_ANOMALY": names.IS_ANOMALY,
    "INCIDENT_OPEN": names.INCIDENT_OPEN,
    "INCIDENT_GROUPS": names.INCIDENT_GROUPS,
    "INCIDENT_SPREAD": names.INCIDENT_GROUPS_SHARE,
    "INCIDENT_SINCE": names.INCIDENT_SINCE,
    "INCIDENT_SHARE": names.INCIDENT_FEATURE_SHARE,
    "INCIDENT_FIRST": names.INCIDENT_FIRST_GROUP,
}
"""Templates name a metric as @SCORE@."""

INSTANT = r"""{{- define "instant" -}}
{{ . | humanizeTimestamp | reReplaceAll "^(\\S+) (\\S{8}).*" "${1}T${2}Z" }}{{ end -}}
"""
"""Defines how a time is written."""

_EXPLANATION = r"""
{{- define "factor" }}
{{- if lt . 0.01 }}<0.01{{ else if lt . 100.0 }}{{ printf "%.3g" . }}
{{- else if le . 10000.0 }}{{ printf "%.0f" . }}{{ else }}>10000{{ end }}×{{ end -}}
{{- define "number" }}
{{- if and (gt . -1000.0) (lt . 1000.0) }}{{ printf "%.4g" . }}
{{- else if and (gt . -100000.0) (lt . 100000.0) }}{{ printf "%.0f" . }}
{{- else }}{{ humanize . }}{{ end }}{{ end -}}
{{- define "value" }}{{ range query . }}{{ template "number" .Value }}{{ end }}{{ end -}}
{{- range query (printf "@SCORE@{%s}" $group) -}}
Score: {{ template "factor" .Value }} the threshold{{ end }}
{{- range query (printf "@SINCE@{%s}" $group) -}}
; anomalous since {{ template "instant" .Value }}{{ end }}.
{{- $shares := printf "100 * @SHARE@{%s} > 0" $group }}
{{- $enough := printf "%s >= 25 * scalar(max(@SHARE@{%s}))" $shares $group }}
{{- $named := "%s and (@LARGEST_AT@{%s} or @ELEVATION@{%s} > 1)" }}
{{- $deviating := printf $named $enough $group $group }}
{{- range query (printf "sort_desc(topk(3, %s))" $deviating) }}
{{- $feature := printf "%s, feature_name=%q" $group .Labels.feature_name }}
{{- $observed := printf "@OBSERVED@{%s}" $feature }}
{{- $expected := printf "@EXPECTED@{%s}" $feature }}
{{- $at := printf "@LARGEST_AT@{%s}" $feature }}
{{- $then := printf "@LARGEST_OBSERVED@{%s}" $feature }}
{{- $usual := printf "@LARGEST_EXPECTED@{%s}" $feature }}
{{- " " }}{{ .Labels.feature_name }}: {{ printf "%.0f" .Value }}% of the deviation;
{{- if query $at }} observed {{ template "value" $then }} at
{{- range query $at }} {{ template "instant" .Value }}{{ end }},
{{- if query (printf "%s >= %s" $then $usual) }} above{{ else }} below{{ end }} the expected
{{- " " }}{{ template "value" $usual }};
{{- range query (printf "@LARGEST_ELEVATION@{%s}" $feature) }} error
{{- " " }}{{ template "factor" .Value }} its baseline{{ end }}
{{- range query (printf "@DEVIATING@{%s}" $feature) }}; deviates since
{{- " " }}{{ template "instant" .Value }}{{ end }}
{{- if query (printf "%s < scalar(@LAST_SCORED@{%s})" $at $group) }};
{{- if query $observed }} now {{ template "value" $observed }}, expected
{{- " " }}{{ template "value" $expected }}{{ else }} no current sample{{ end }}{{ end }}.
{{- else }}
{{- if query $observed }} observed {{ template "value" $observed }},
{{- if query (printf "%s >= %s" $observed $expected) }} above{{ else }} below{{ end }} the
{{- else }} no current sample,{{ end }} expected {{ template "value" $expected }};
{{- range query (printf "@ELEVATION@{%s}" $feature) }} error
{{- " " }}{{ template "factor" .Value }} its baseline{{ end }}
{{- range query (printf "@DEVIATING@{%s}" $feature) }} since
{{- " " }}{{ template "instant" .Value }}{{ end }}.
{{- end }}
{{- else }} No feature is above its baseline.
{{- end }}
{{- range query (printf "100 * (@KNOWN@{%s} < 1)" $group) }}
{{- " " }}Only {{ printf "%.3g" .Value }}% of the features have current samples.
{{- end -}}
"""

_FAILED_QUERIES = r"""
{{- with query (printf "@QUERY_UP@{%s} == 0" $detector) }} Failed queries:
{{- range $number, $query := sortByLabel "query" . }}
{{- if $number }},{{ end }} {{ $query.Labels.query }}{{ end }}.
{{- else }} All queries succeed, but samples are missing or stale.
{{- end -}}
"""


def template_explanation(prefix: str, identity: Sequence[str]) -> str:
    """What is anomalous about the group: the score, then the features that cause it.

    Args:
        identity: the labels that tell the group's series from others.
    """
    whole = match_labels("group", identity) + INSTANT + _EXPLANATION.lstrip()
    return fill_in_metrics(whole, prefix).strip()


def template_blindness(
    sentence: str, prefix: str, identity: Sequence[str], shared: Sequence[str]
) -> str:
    """A sentence, and which queries of the group's detector fail.

    Args:
        shared: the labels by which the group and its detector belong together.
    """
    matchers = match_labels("group", identity) + match_labels("detector", shared)
    return matchers + sentence + fill_in_metrics(_FAILED_QUERIES, prefix).rstrip()


def template_group(group_by: Sequence[str]) -> str:
    """`: label="value", ...` of the group that an alert is about; empty without `group_by`."""
    return f": {write_labels('$labels', group_by)}" if group_by else ""


def template_group_name(group_by: Sequence[str]) -> str:
    """The name of the group that an alert is about, as a parameter of a URL."""
    if not group_by:
        return "{{ $labels.detector | urlquery }}"
    named = ", ".join(f"{name}=%q" for name in sorted(group_by))
    values = " ".join(f"$labels.{name}" for name in ("detector", *sorted(group_by)))
    return f'{{{{ printf "%s{{{named}}}" {values} | urlquery }}}}'


def write_labels(source: str, labels: Sequence[str]) -> str:
    """Labels with their values, which a template takes from `source`.

    >>> write_labels("$labels", ["instance"])
    '{{ printf "instance=%q" $labels.instance }}'
    """
    values = " ".join(f"{source}.{name}" for name in labels)
    return f'{{{{ printf "{", ".join(f"{name}=%q" for name in labels)}" {values} }}}}'


def match_labels(variable: str, labels: Sequence[str]) -> str:
    """Sets a variable of a template to matchers for these labels of the alert."""
    values = " ".join(f"$labels.{name}" for name in labels)
    named = ", ".join(f"{name}=%q" for name in labels)
    return f'{{{{- ${variable} := printf "{named}" {values} -}}}}\n'


def fill_in_metrics(template: str, prefix: str) -> str:
    """The template with the whole names of its metrics."""
    return re.sub(r"@(\w+)@", lambda found: _METRICS[found[1]].full_name(prefix), template)
