"""`ShardQueries`: what a shard asks for, so that a server reads and sends its groups alone.

One light query has the label sets of all groups. Those of the shard's own groups give the values
that one label may have, and these go into every selector that allows it (`narrowing`), in as many
requests as their length takes. What comes back beyond the shard's groups is dropped by its
`Grouping`, so that what cannot be narrowed costs more, but changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from promad.config.selectors import list_selections
from promad.data.groups import Grouping, Labels
from promad.data.shards import Shard
from promad.errors import PrometheusError
from promad.prometheus.client import PrometheusClient
from promad.prometheus.groups.freshness import list_labels
from promad.prometheus.groups.narrowing import (
    EVERYTHING,
    NOTHING,
    PLACE,
    fill_place,
    join_values,
    narrow_query,
    quote_values,
)
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.one_series import flatten_text
from promad.prometheus.parsing import read_labels

REFRESH_SECONDS = 300.0
"""How often the groups are asked for; a new one is watched within this time."""
_MISS_SECONDS = 30.0
"""How long after the last time they are asked for again, once a group has no new samples."""
_LENGTHS = (256 * 1024, 8192, 2048)
"""Characters of a request at most: what Prometheus takes in a POST with ease; half of what
VictoriaMetrics does; a URL."""
_MOST_PARTS = 64
"""Requests into which a query is divided; if it takes more, one for all groups costs less."""
_CHARACTERS_PER_SERIES = 20
"""So many characters of a regular expression take a server as long as one series more."""
_MOST_KNOWN = 500_000

log = structlog.get_logger()


@dataclass(frozen=True)
class Members:
    """What a matcher for the shard's groups is made of.

    Attributes:
        label: its name.
        values: those of the shard's groups.
        lengths: of each as a regular expression in PromQL's quotes.
        own: how many label sets the shard's groups have.
        covered: how many label sets of any shard have one of the values.
    """

    label: str
    values: tuple[str, ...]
    lengths: tuple[int, ...]
    own: int
    covered: int

    @property
    def cost(self) -> float:
        """What a request costs, in series of one query."""
        return self.covered + sum(self.lengths) / _CHARACTERS_PER_SERIES


class ShardQueries:
    """The requests for the groups of one shard."""

    def __init__(self, client: PrometheusClient, options: PollOptions, shard: Shard) -> None:
        self._client = client
        self._options = options
        self._shard = shard
        self._whole = Grouping(options.grouping.by, options.grouping.rules)
        names = [name for rule in options.grouping.rules for name in rule.source_labels]
        self._labels = tuple(dict.fromkeys([*options.grouping.by, *names]))
        self._listed = list_labels(options.grouping.by, names)
        self._questions = self._list_questions(options.queries)
        self._members: Members | None = None
        self._seen: dict[Labels, float] = {}
        self._others: tuple[Labels, ...] = ()
        self._known: dict[bytes, tuple[Labels, bool]] = {}
        self._asked_at = -np.inf
        self._missed = self._failing = False
        self._length = 0 if client.may_post else 2
        self._refused: set[str] = set()
        self._pieces: dict[str, list[str]] = {}
        self._narrowed: dict[str, str] = {}
        self._told: set[str] = set()

    @property
    def label(self) -> str:
        """The label that is matched; empty while the groups are not known."""
        return "" if self._members is None else self._members.label

    def note_missing(self) -> None:
        """A group has no new samples: look soon which groups there are now."""
        self._missed = True

    def refresh(self, at: float) -> None:
        """Ask which groups there are, if that is due; `at` in unix seconds.

        If it fails, those of before stay; if there are none, everything is read.
        """
        pause = _MISS_SECONDS if self._missed or self._members is None else REFRESH_SECONDS
        if not self._questions or 0 <= at - self._asked_at < pause:
            return
        self._asked_at, self._missed = at, False
        try:
            found = self._ask(at)
        except PrometheusError as error:
            if not self._failing:
                log.warning("groups of the shard not known", err=str(error))
            self._failing = True
            return
        self._failing = False
        self._enter(found, at)

    def _list_questions(self, queries: Mapping[str, str]) -> list[str]:
        """PromQL for the label sets of the groups, of every selector that may be narrowed."""
        narrowed = [
            expr
            for expr in queries.values()
            if any(narrow_query(expr, label) != expr for label in self._labels)
        ]
        selectors = sorted({each.selector for expr in narrowed for each in list_selections(expr)})
        parts = [f"group by ({self._listed}) ({selector})" for selector in selectors]
        joined = _cut([*map(len, parts)], _LENGTHS[1], len(" or "))
        return [" or ".join(parts[some]) for some in joined]

    def _ask(self, at: float) -> list[bytes]:
        """The JSON of every label set.

        Raises:
            PrometheusError: if one question fails.
        """
        found: dict[bytes, None] = {}
        most, step, subject = self._options.most_series, self._options.step, "groups of the shard"
        for question in self._questions:
            bodies = self._client.range_bodies(
                question, at, at, step, subject=subject, most_series=most
            )
            for answer in self._client.read_tables(bodies, subject, most):
                found.update((bytes(metric), None) for metric in answer.table.metrics)
        return list(found)

    def _enter(self, metrics: Sequence[bytes], at: float) -> None:
        """Note which label sets there are, and choose the label that tells them apart best."""
        new = [metric for metric in metrics if metric not in self._known]
        if len(self._known) + len(new) > _MOST_KNOWN:
            self._known, new = {}, [*metrics]
        self._read(new)
        for metric in metrics:
            labels, is_own = self._known[metric]
            if is_own:
                self._seen[labels] = at
        oldest = at - self._options.forget_after
        self._seen = {labels: seen for labels, seen in self._seen.items() if seen >= oldest}
        others = [self._known[metric] for metric in metrics]
        self._others = tuple(labels for labels, is_own in others if not is_own)
        members = min(map(self._choose_values, self._labels), key=lambda each: each.cost)
        if members != self._members:
            if self._members is None or members.label != self._members.label:
                self._narrowed = {}
                self._tell(members)
            self._members, self._pieces = members, {}

    def _read(self, metrics: Sequence[bytes]) -> None:
        """Remember the label sets behind their JSON, and whether they are of the shard."""
        sets = [read_labels(metric) for metric in metrics]
        groups = [self._whole.find_group(labels) for labels in sets]
        owned = self._shard.choose([group or () for group in groups])
        for metric, labels, group, is_own in zip(metrics, sets, groups, owned, strict=True):
            self._known[metric] = labels, group is not None and bool(is_own)

    def _choose_values(self, label: str) -> Members:
        own = [dict(labels).get(label, "") for labels in self._seen]
        values = sorted(set(own))
        wanted = set(values)
        others = sum(dict(labels).get(label, "") in wanted for labels in self._others)
        lengths = tuple(map(len, quote_values(values)))
        return Members(label, tuple(values), lengths, len(own), len(own) + others)

    def _tell(self, members: Members) -> None:
        share = self._shard.share
        log.info(
            "groups of the shard",
            shard=str(share),
            label=members.label,
            groups=members.own,
            read=members.covered,
        )

    def narrow(self, expr: str) -> str:
        """The expression with a place for the values, or itself if it is to be read whole."""
        if self._members is None:
            return expr
        if expr not in self._narrowed:
            self._narrowed[expr] = narrow_query(expr, self._members.label)
        return self._narrowed[expr]

    def fill(self, narrowed: str, shown: str) -> list[str]:
        """The requests that together ask for all groups of the shard."""
        if self._members is None or PLACE not in narrowed or shown in self._refused:
            return [self.widen(narrowed)]
        if narrowed not in self._pieces:
            places = narrowed.count(PLACE)
            room = (_LENGTHS[self._length] - len(narrowed)) // places
            values = self._members.values
            parts = [values[part] for part in _cut(self._members.lengths, room, 1)]
            if len(parts) > _MOST_PARTS:
                self._read_whole(shown, f"{len(parts)} requests, more than {_MOST_PARTS}")
                return [self.widen(narrowed)]
            regexes = map(join_values, parts) if values else [NOTHING]
            self._pieces[narrowed] = [fill_place(narrowed, regex) for regex in regexes]
        return self._pieces[narrowed]

    def widen(self, narrowed: str) -> str:
        """The request for all groups of all shards."""
        return fill_place(narrowed, EVERYTHING)

    def note_refusal(self, shown: str, error: PrometheusError) -> None:
        """A server that answered the whole expression refused the narrowed one."""
        if self._length + 1 < len(_LENGTHS):
            self._length += 1
            self._pieces = {}
            log.info("request too long; asking in parts", most=_LENGTHS[self._length])
            return
        self._read_whole(shown, str(error))

    def _read_whole(self, shown: str, why: str) -> None:
        """Ask for a query without a matcher from now on."""
        self._refused.add(shown)
        log.warning("query not narrowed to the shard", query=flatten_text(shown), err=why)

    def note_whole(self, expr: str, series: int, own: int) -> None:
        """An expression was read whole; what that costs is logged once."""
        if self._members is not None and expr not in self._told and series > own:
            self._told.add(expr)
            log.warning(
                "query reads the groups of all shards: the label is not in every selector",
                query=flatten_text(expr),
                label=self._members.label,
                series=series,
                of_shard=own,
            )


def _cut(lengths: Sequence[int], most: int, between: int) -> Iterator[slice]:
    """Parts of texts of these lengths, of at most `most` characters with `between` after each.

    A text that is longer is a part by itself.
    """
    begin = characters = 0
    for place, length in enumerate(lengths):
        if place > begin and characters + length > most:
            yield slice(begin, place)
            begin, characters = place, 0
        characters += length + between
    if lengths:
        yield slice(begin, len(lengths))
