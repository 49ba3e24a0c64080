"""Rules as YAML for Prometheus, each below a comment with the reason for it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml
from yaml.representer import BaseRepresenter

_WIDTH = 96


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        why: the reason for it, written above it as a comment.
        content: its keys, in the order in which they are written.
    """

    why: str
    content: Mapping[str, Any]


def _represent_text(dumper: BaseRepresenter, value: Any) -> yaml.ScalarNode:
    """Text of several lines as a block, any other in the style that YAML chooses."""
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


class _Dumper(yaml.SafeDumper):
    yaml_representers: ClassVar = {**yaml.SafeDumper.yaml_representers, str: _represent_text}


def render_rules(
    about: str,
    groups: Mapping[str, Sequence[Rule]],
    intervals: Mapping[str, str] | None = None,
) -> str:
    """A rule file: what it is about as a comment, then each rule group by its name.

    Args:
        intervals: how often groups are evaluated, by their names; others as the server is set up.
    """
    parts = [f"{_render_comment(about)}groups:\n"]
    for name, rules in groups.items():
        head = {"name": name}
        if intervals and name in intervals:
            head["interval"] = intervals[name]
        parts.append(textwrap.indent(_dump([head]), "  ") + "    rules:\n")
        parts += [textwrap.indent(_render_rule(rule), " " * 6) for rule in rules]
    return "".join(parts)


def render_mapping(about: str, content: Mapping[str, Any]) -> str:
    """A file of other content: what it is about as a comment, then the content."""
    return _render_comment(about) + _dump(dict(content))


def _render_rule(rule: Rule) -> str:
    return _render_comment(rule.why) + _dump([dict(rule.content)])


def _dump(content: Any) -> str:
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def _render_comment(text: str) -> str:
    lines = textwrap.wrap(text, _WIDTH - 2, break_on_hyphens=False)  # options stay whole
    return "".join(f"# {line}\n" for line in lines)
