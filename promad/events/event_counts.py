"""How many events and incidents a detector has had, from its event log, which stays as it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from promad.errors import DataError

Counted = Literal["events", "incidents"]

_BUSY_SECONDS = 5.0
_COUNT = {
    "events": "SELECT count(*) FROM events WHERE bundle = ? AND flagged_at >= ?",
    "incidents": "SELECT count(*) FROM incidents WHERE bundle = ? AND flagged_at >= ?",
}
_NOT_MUTED = " AND (muted IS NULL OR unmuted_at IS NOT NULL)"
_VERSION_WITH_MUTED = 3


def count_begun(path: Path, counted: Counted, bundle: str, since: float) -> int:
    """How many events or incidents of a bundle began since `since` (unix seconds).

    Those that were muted throughout do not count. The file is not changed.

    Raises:
        DataError: if it cannot be read.
    """
    with _open_unchanged(path) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        sql = _COUNT[counted] + (_NOT_MUTED if version >= _VERSION_WITH_MUTED else "")
        (count,) = connection.execute(sql, (bundle, since)).fetchone()
        return int(count)


@contextmanager
def _open_unchanged(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        address = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, timeout=_BUSY_SECONDS, uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
