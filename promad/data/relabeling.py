"""Relabelling: Prometheus's own rules, applied to the labels of a series before it finds its group.

Prometheus documentation, "Configuration", section `<relabel_config>`. Left out are `hashmod` and
`labelmap`, which choose scrape targets rather than groups.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from promad.config.settings import RelabelConfig

_REFERENCE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True)
class RelabelRule:
    """One rule; its fields are those of Prometheus, with the same defaults.

    `regex` must match the whole value; `replacement` and `target_label` refer to its parts by `$1`
    or `${name}`.
    """

    action: str = "replace"
    source_labels: tuple[str, ...] = ()
    separator: str = ";"
    regex: re.Pattern[str] = re.compile("(.*)")
    target_label: str = ""
    replacement: str = "$1"

    @staticmethod
    def of(config: RelabelConfig) -> RelabelRule:
        """The rule in a configuration."""
        return RelabelRule(
            config.action,
            config.source_labels,
            config.separator,
            re.compile(config.regex, re.ASCII),  # as in RE2, where \d and \w are ASCII
            config.target_label or "",
            config.replacement,
        )


def relabel(labels: Mapping[str, str], rules: Sequence[RelabelRule]) -> dict[str, str] | None:
    """The labels after all rules, in their order; None if a rule drops the series.

    A label with an empty value is no label.

    >>> rule = RelabelRule(source_labels=("pod",), regex=re.compile("(.*)-[^-]+"),
    ...                    target_label="workload")
    >>> relabel({"pod": "web-x7f2k"}, [rule])
    {'pod': 'web-x7f2k', 'workload': 'web'}
    """
    current = dict(labels)
    for rule in rules:
        changed = _apply(rule, current)
        if changed is None:
            return None
        current = {name: value for name, value in changed.items() if value}
    return current


def _apply(rule: RelabelRule, labels: dict[str, str]) -> dict[str, str] | None:
    if rule.action in {"labeldrop", "labelkeep"}:
        kept = rule.action == "labelkeep"
        return {
            name: value
            for name, value in labels.items()
            if bool(rule.regex.fullmatch(name)) == kept
        }
    value = rule.separator.join(labels.get(name, "") for name in rule.source_labels)
    match = rule.regex.fullmatch(value)
    if rule.action in {"keep", "drop"}:
        return labels if bool(match) == (rule.action == "keep") else None
    if rule.action == "lowercase":
        return {**labels, rule.target_label: value.lower()}
    if rule.action == "uppercase":
        return {**labels, rule.target_label: value.upper()}
    target = None if match is None else _expand(rule.target_label, match)
    if match is None or target is None or not _LABEL_NAME.fullmatch(target):
        return labels
    return {**labels, target: _expand(rule.replacement, match)}


def _expand(template: str, match: re.Match[str]) -> str:
    """The template with its references replaced; one to a part that is not there is empty."""

    def replace(reference: re.Match[str]) -> str:
        name = reference[1] or reference[2]
        if name is None:
            return "$"
        is_number = name.isascii() and name.isdigit()
        if is_number and name != "0" and name.startswith("0"):
            return ""  # Go reads no number in it
        try:
            return match[int(name) if is_number else name] or ""
        except IndexError:
            return ""

    return _REFERENCE.sub(replace, template)
