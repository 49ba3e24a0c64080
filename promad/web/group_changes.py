"""`GroupChanges`: which rows of the list of groups changed since a client last asked."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promad.web.group_table import GroupTable

_MOST_GONE = 10_000
"""Groups that are remembered after they are gone: churn must not fill the memory."""


@dataclass(frozen=True)
class Changes:
    """What changed between two requests.

    Attributes:
        rows: whether the row of each group changed, bool (groups,).
        gone: names of the groups that are not monitored any more.
    """

    rows: NDArray[np.bool_]
    gone: Sequence[str]


class GroupChanges:
    """When the state or the coarse score of each group last changed, in requests. Thread-safe."""

    def __init__(self, epoch: str | None = None) -> None:
        """No request yet. `epoch`, 8 hexadecimal digits, begins the tokens of this process."""
        self._lock = threading.Lock()
        self._epoch = epoch or secrets.token_hex(4)
        self._revision = 0
        self._complete_from = 0
        self._names: tuple[str, ...] = ()
        self._keys = np.zeros((0, 2))
        self._changed_at = np.zeros(0, np.int64)
        self._gone: dict[str, int] = {}

    def compare(self, table: GroupTable, token: str | None) -> tuple[str, Changes | None]:
        """The token of this list, and what changed since the list with another token.

        Changes are None without a token, and for a token that is unknown or too old.
        """
        tenths = np.floor(10 * table.score) / 10
        coarse = np.where(table.score < 1, table.coarse_score, tenths)
        keys = np.column_stack([table.state.astype(np.float64), coarse])
        with self._lock:
            self._follow(table.names, keys)
            return f"{self._epoch}.{self._revision}", self._list_changes(token)

    def _list_changes(self, token: str | None) -> Changes | None:
        epoch, _, revision = (token or "").partition(".")
        if epoch != self._epoch or not self._complete_from <= int(revision) <= self._revision:
            return None
        gone = [name for name, at in self._gone.items() if at > int(revision)]
        return Changes(self._changed_at > int(revision), gone)

    def _follow(self, names: tuple[str, ...], keys: NDArray[np.float64]) -> None:
        """Note what differs from the previous list."""
        source = np.arange(len(names)) if names == self._names else self._match(names)
        known = source >= 0
        same = np.zeros(len(names), np.bool_)
        same[known] = (
            (keys[known] == self._keys[source[known]])
            | (np.isnan(keys[known]) & np.isnan(self._keys[source[known]]))
        ).all(axis=1)
        gone = len(self._names) - int(known.sum())
        if same.all() and not gone:
            return
        self._revision += 1
        changed_at = np.full(len(names), self._revision)
        changed_at[same] = self._changed_at[source[same]]
        if gone:
            self._forget(sorted(set(self._names) - set(names)))
        for name in self._gone.keys() & set(names):
            del self._gone[name]
        self._names, self._keys, self._changed_at = names, keys, changed_at

    def _match(self, names: tuple[str, ...]) -> NDArray[np.int64]:
        """The previous row of each group, -1 for a new one."""
        rows = {name: row for row, name in enumerate(self._names)}
        return np.array([rows.get(name, -1) for name in names], np.int64)

    def _forget(self, gone: Sequence[str]) -> None:
        for name in gone:
            self._gone[name] = self._revision
        while len(self._gone) > _MOST_GONE:
            self._complete_from = self._gone.pop(next(iter(self._gone)))
