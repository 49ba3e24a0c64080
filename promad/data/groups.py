"""Groups: the label values that make one monitored thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from promad.config import Config
from promad.data.relabeling import RelabelRule, relabel

if TYPE_CHECKING:  # the command line has groups, but not yet numpy
    from promad.data.shards import Shard

Labels = tuple[tuple[str, str], ...]
"""A group's label values, sorted by label name: `(("instance", "a:9100"), ("job", "node"))`."""

THE_ONLY_GROUP: Labels = ()
"""The group of a detector that watches one thing and so needs no labels to tell groups apart."""


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


@dataclass(frozen=True)
class Grouping:
    """Which group each series belongs to.

    Attributes:
        by: the label names whose values make one group; none make everything one group.
        rules: what is done to the labels of a series first.
        shard: whose groups alone there are; None for all.
    """

    by: tuple[str, ...] = ()
    rules: Sequence[RelabelRule] = ()
    shard: Shard | None = None
    _known: dict[Labels, Labels | None] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def of(config: Config, shard: Shard | None = None) -> Grouping:
        """The grouping in a configuration."""
        rules = tuple(RelabelRule.of(rule) for rule in config.group_relabel_configs)
        return Grouping(config.group_by, rules, shard)

    def find_group(self, series: Labels) -> Labels | None:
        """The group of a series; None if a rule drops it, or if it is another shard's.

        A label that the series does not have is not in its group's labels either.

        >>> Grouping(("instance",)).find_group((("instance", "a:9100"), ("job", "node")))
        (('instance', 'a:9100'),)
        """
        if series not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[series] = self.find_new_group(series)
        return self._known[series]

    def find_new_group(self, series: Labels) -> Labels | None:
        """As `find_group`, of a series that the caller remembers."""
        labels = relabel(dict(series), self.rules) if self.rules else dict(series)
        if labels is None:
            return None
        group = sort_labels({name: labels[name] for name in self.by if labels.get(name)})
        return group if self.shard is None or self.shard.owns(group) else None

    def find_part(self, series: Labels) -> Labels | None:
        """Those labels of a series that groups have; None if a rule drops it.

        They choose the groups that a series is about, which need not be one: a series that has
        nothing to do with groups or rules is about all of them.

        >>> Grouping(("instance", "job")).find_part((("alertname", "A"), ("job", "node")))
        (('job', 'node'),)
        """
        names = {name for name, _ in series}
        known = {*self.by, *(name for rule in self.rules for name in rule.source_labels)}
        return self.find_group(series) if names & known else ()


_MOST_KNOWN = 1_000_000
"""Series whose group is remembered: churn must not fill the memory."""
