"""The text of an alert in Prometheus's template language: that of `promad.events.explanation`.

The daemon says it in its log, on its page and in reports; Prometheus puts the same together from
the metrics of the group that the alert is about. Tests hold the two equal.
"""

from __future__ import annotations

from promad.exposition import DAEMON_PREFIX

_OF_GROUP = (
    '{{- $group := printf "job=%q, instance=%q, detector=%q" '
    "$labels.job $labels.instance $labels.detector -}}\n"
)

_PARAGRAPH = r"""
{{- define "instant" -}}
{{ . | humanizeTimestamp | reReplaceAll "^(\\S+) (\\S{8}).*" "${1}T${2}Z" }}{{ end -}}
{{- define "number" }}{{ range query . }}{{ printf "%.4g" .Value }}{{ end }}{{ end -}}
{{- range query (printf "PREFIX_score{%s}" $group) -}}
The score is {{ printf "%.3g" .Value }} times the threshold{{ end }}
{{- range query (printf "PREFIX_anomalous_since_timestamp_seconds{%s}" $group) -}}
, anomalous since {{ template "instant" .Value }}{{ end }}.
{{- $shares := printf "100 * PREFIX_feature_contribution_ratio{%s} > 0" $group }}
{{- $deviating := printf "%s and PREFIX_feature_elevation_ratio{%s} > 1" $shares $group }}
{{- range query (printf "sort_desc(topk(3, %s))" $deviating) }}
{{- $feature := printf "%s, feature_name=%q" $group .Labels.feature_name }}
{{- $observed := printf "PREFIX_feature_observed_value{%s}" $feature }}
{{- $expected := printf "PREFIX_feature_expected_value{%s}" $feature }}
{{- " " }}{{ .Labels.feature_name }} makes {{ printf "%.0f" .Value }}% of the excess: it
{{- if query $observed }} is
{{- if query (printf "%s >= %s" $observed $expected) }} above{{ else }} below{{ end }}
{{- " " }}what is expected, {{ template "number" $observed }} against
{{- " " }}{{ template "number" $expected }};
{{- else }} has no sample now, where {{ template "number" $expected }} is expected;
{{- end }}
{{- range query (printf "PREFIX_feature_elevation_ratio{%s}" $feature) }}
{{- " " }}its recent error is {{ printf "%.3g" .Value }} times the usual{{ end }}
{{- range query (printf "PREFIX_feature_deviating_since_timestamp_seconds{%s}" $feature) -}}
, since {{ template "instant" .Value }}{{ end }}.
{{- else }} No feature deviates by itself.
{{- end }}
{{- range query (printf "100 * (PREFIX_known_features_ratio{%s} < 1)" $group) }}
{{- " " }}{{ printf "%.0f" .Value }}% of the features are known.
{{- end -}}
"""

_UNANSWERED = r"""
{{- with query (printf "PREFIX_query_up{%s} == 0" $group) }} Queries without an answer:
{{- range $number, $query := sortByLabel "query" . }}
{{- if $number }},{{ end }} {{ $query.Labels.query }}{{ end }}.
{{- else }} All queries are answered, so their samples are missing or stale.
{{- end -}}
"""


def paragraph(prefix: str) -> str:
    """What is odd about the group: the score, then the features that drive it."""
    return _OF_GROUP + _PARAGRAPH.replace("PREFIX_", prefix).strip()


def blindness(sentence: str) -> str:
    """A sentence, and which queries of the group's detector are not answered."""
    return _OF_GROUP + sentence + _UNANSWERED.replace("PREFIX_", DAEMON_PREFIX).rstrip()
