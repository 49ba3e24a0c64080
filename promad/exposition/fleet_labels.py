"""`FleetLabels`: the labels of a fleet's series as text, kept for groups that stay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promad.data.groups import Labels
from promad.events.verdict import STATES
from promad.exposition.text import write_labels, write_variants


class GroupText(NamedTuple):
    """The labels of one group's series, as `write_labels` returns them.

    Attributes:
        plain: without others.
        states: with each of `STATES`.
        calibrations: with `own` and `pooled`.
        scope: the values of the labels in `incidents.scope`.
    """

    plain: bytes
    states: Sequence[bytes]
    calibrations: tuple[bytes, bytes]
    scope: Labels


class GroupLists(NamedTuple):
    """The same of all groups.

    Attributes:
        plain: (groups,).
        states: (groups x states,), those of one group after the other.
        calibrations: of each group the pair.
        scopes: each scope once.
        scope_of: the place in `scopes` of each group, int64 (groups,).
    """

    plain: Sequence[bytes]
    states: Sequence[bytes]
    calibrations: Sequence[tuple[bytes, bytes]]
    scopes: Sequence[Labels]
    scope_of: NDArray[np.int64]


class FleetLabels:
    """The labels of one detector's series."""

    def __init__(self, detector: str) -> None:
        self._detector = detector
        self._groups: Mapping[Labels, GroupText] = {}
        self._lists = _list_texts((), True)
        self._listed: tuple[tuple[Labels, ...], tuple[str, ...]] | None = None
        self._features: Mapping[tuple[Labels, tuple[str, ...]], Sequence[bytes]] = {}

    def write(self, labels: Iterable[tuple[str, str]], **own: str) -> bytes:
        """The labels of one series."""
        return write_labels({**dict(labels), **own, "detector": self._detector})

    def write_variants(
        self, labels: Iterable[tuple[str, str]], name: str, values: Sequence[str]
    ) -> list[bytes]:
        """The labels of series that differ in the value of one label."""
        return write_variants({**dict(labels), "detector": self._detector}, name, values)

    def list_groups(self, groups: tuple[Labels, ...], scope: tuple[str, ...]) -> GroupLists:
        """The texts of these groups; `scope` has the label names in `incidents.scope`."""
        if self._listed != (groups, scope):
            kept = self._groups if self._listed and self._listed[1] == scope else {}
            self._groups = {
                labels: kept.get(labels) or self._write_group(labels, scope) for labels in groups
            }
            self._lists = _list_texts(self._groups.values(), whole=not scope)
            self._listed = (groups, scope)
        return self._lists

    def _write_group(self, labels: Labels, scope: tuple[str, ...]) -> GroupText:
        own, pooled = self.write_variants(labels, "calibration", ("own", "pooled"))
        return GroupText(
            self.write(labels),
            self.write_variants(labels, "state", STATES),
            (own, pooled),
            tuple(label for label in labels if label[0] in scope),
        )

    def list_features(self, groups: Iterable[Labels], features: tuple[str, ...]) -> list[bytes]:
        """The texts of all features of one group after the other; only these are kept."""
        keys = [(labels, features) for labels in groups]
        self._features = {
            key: self._features.get(key) or self.write_variants(key[0], "feature_name", features)
            for key in keys
        }
        return [text for key in keys for text in self._features[key]]


def _list_texts(texts: Iterable[GroupText], whole: bool) -> GroupLists:
    """The lists of all groups; if the scope is the `whole` detector, it needs no groups."""
    texts = list(texts)
    scopes: dict[Labels, int] = {(): 0} if whole else {}
    scope_of = [scopes.setdefault(text.scope, len(scopes)) for text in texts]
    return GroupLists(
        [text.plain for text in texts],
        [state for text in texts for state in text.states],
        [text.calibrations for text in texts],
        list(scopes),
        np.array(scope_of, np.int64),
    )
