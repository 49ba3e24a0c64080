"""What the fault server answers at a tick, and what of it the daemon may take as known."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.support.prometheus_stub import split_union
from tests.support.soak.faults import (
    EMPTY,
    HUGE,
    LOST,
    REFUSED,
    Points,
    Reply,
    Series,
    write_matrix,
)
from tests.support.soak.oracle import Oracle
from tests.support.soak.plan import Fault
from tests.support.soak.truth import QUERIES, STEP, Truth

_ALIASES = {expr: alias for alias, expr in QUERIES.items()}
_NAMES = tuple(QUERIES)


@dataclass
class Answers:
    """Answers range queries by the truth, spoilt by the faults at work.

    The oracle hears of what is delivered. Longer requests than the poller's, which fill a history,
    are spoilt too, but not heard of.
    """

    truth: Truth
    oracle: Oracle
    faults: tuple[Fault, ...] = ()
    asked: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, form: Mapping[str, str]) -> Reply:
        with self._lock:
            self.asked += 1
            expr = form["query"]
            start, end, step = (float(form[key]) for key in ("start", "end", "step"))
            rows = [start + step * n for n in range(round((end - start) / step) + 1)]
            if united := split_union(expr):
                return self._answer_union([_ALIASES[each] for each in united], rows)
            alias = _ALIASES.get(expr) or next(name for name in _NAMES if name in expr)
            return self._answer(alias, expr not in _ALIASES, rows)

    def _answer_union(self, aliases: Sequence[str], rows: list[float]) -> Reply:
        """The answer to several queries; a fault of one of them is one of the whole answer."""
        kinds = {alias: self._find_kind(alias) for alias in aliases}
        points = {alias: self._list_points(alias, False, rows) for alias in aliases}
        lost = next((kind for kind in kinds.values() if kind in LOST), None)
        if lost is not None:
            return LOST[lost](write_matrix(_label(points)))
        refused = next((k for alias, k in kinds.items() if k in REFUSED and points[alias]), None)
        if refused is not None:
            return Reply(body=REFUSED[refused](_label(points)))
        for alias, kind in kinds.items():
            points[alias], known = self._spoil(kind, alias, False, points[alias])
            if len(rows) <= self.oracle.kept:
                self.oracle.take(alias, rows, known)
        return Reply(body=write_matrix(_label(points)))

    def _find_kind(self, alias: str) -> str:
        """The fault of a query; empty if it has none."""
        return next((each.kind for each in self.faults if alias in each.aliases), "")

    def _answer(self, alias: str, for_ages: bool, rows: list[float]) -> Reply:
        kind = self._find_kind(alias)
        counts = len(rows) <= self.oracle.kept
        refused = kind in LOST or kind in REFUSED
        if refused and for_ages and counts:
            self.oracle.withdraw(alias, rows)
        if kind in LOST:
            return LOST[kind](_write(alias, self._list_points(alias, for_ages, rows)))
        points = self._list_points(alias, for_ages, rows)
        if kind in REFUSED and points:
            return Reply(body=REFUSED[kind]([({"__name__": alias}, points)]))
        points, known = self._spoil(kind, alias, for_ages, points)
        if counts and not for_ages:
            self.oracle.take(alias, rows, known)
        if not points and kind == "null for no series":
            return Reply(body=b'{"status":"success","data":{"resultType":"matrix","result":null}}')
        return Reply(body=_write(alias, points))

    def _list_points(
        self, alias: str, for_ages: bool, rows: list[float]
    ) -> list[tuple[float, float]]:
        """What the server has, times or values."""
        points = []
        for at in rows:
            sampled_at = self.truth.sampled_at(alias, at)
            if sampled_at is not None:
                value = sampled_at if for_ages else self.truth.value(alias, sampled_at)
                points.append((at, value))
        return points

    def _spoil(
        self, kind: str, alias: str, for_ages: bool, points: list[tuple[float, float]]
    ) -> tuple[list[tuple[float, float]], list[float]]:
        """The points as they are sent, and the times of those that are really known."""
        known = [at for at, _ in points if self.truth.is_known(alias, at)]
        if kind not in {*EMPTY, *HUGE} or for_ages or not points:
            return points, known
        newest = points[-1][0]
        if kind in {"NaN", "+Inf"}:
            value = float("nan") if kind == "NaN" else float("inf")
            return [(at, value) for at, _ in points], []
        if kind in HUGE:
            self.oracle.strange.append((newest, newest + STRANGE_SAMPLES * STEP))
            return [*points[:-1], (newest, HUGE[kind])], known
        if kind == "newest sample missing":
            return points[:-1], [at for at in known if at < newest]
        return [], []


STRANGE_SAMPLES = 250
"""For how long one value of 1e200 may be felt."""


def _label(points: Mapping[str, Points]) -> Series:
    """The series of a union, which has those of each query that has points."""
    return [
        ({"__name__": alias, "united_query": str(number)}, points[alias])
        for number, alias in enumerate(points)
        if points[alias]
    ]


def _write(alias: str, points: list[tuple[float, float]]) -> bytes:
    return write_matrix([({"__name__": alias}, points)] if points else [])
