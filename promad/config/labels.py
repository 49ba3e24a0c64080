"""Label sets, and how PromQL and the text format write them."""

from __future__ import annotations

from collections.abc import Mapping

Labels = tuple[tuple[str, str], ...]
"""A group's label values, sorted by label name: `(("instance", "a:9100"), ("job", "node"))`."""


def name_group(detector: str, group: Labels) -> str:
    """The name of a group: its detector's, with its labels where it has any, as PromQL has them.

    No two groups of a detector have the same name, whatever their label values.

    >>> name_group("web", ()), name_group("web", (("instance", "a:9100"), ("job", "node")))
    ('web', 'web{instance="a:9100", job="node"}')
    """
    return f"{detector}{{{list_matchers(group)}}}" if group else detector


def list_matchers(labels: Labels) -> str:
    """Labels as they stand between braces in PromQL.

    >>> list_matchers((("instance", "a:9100"), ("job", "node")))
    'instance="a:9100", job="node"'
    """
    return ", ".join(f'{name}="{escape_label_value(value)}"' for name, value in labels)


def escape_label_value(value: str) -> str:
    r"""A label value as it stands between quotes in PromQL and in the text format.

    >>> print(escape_label_value('say "hi"'))
    say \"hi\"
    """
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def sort_labels(mapping: Mapping[str, str]) -> Labels:
    """The canonical (sorted, hashable) form of a label set."""
    return tuple(sorted(mapping.items()))
