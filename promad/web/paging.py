"""Pages of what begins at a time and has an id, newest start first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated

from fastapi import Query

Place = tuple[float, str]
"""Start and id: the order of pages."""

Limit = Annotated[int, Query(ge=1, le=1000)]
IsOpen = Annotated[bool | None, Query(alias="open")]
Cursor = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9]{1,12}\.[0-9]{1,12}-[0-9a-f]{12}$",
        description="`next` of the previous page",
    ),
]
"""Parameters that lists share."""


def cut_page[Item](
    found: Iterable[Item], limit: int, get_place: Callable[[Item], Place]
) -> tuple[list[Item], str | None]:
    """The first page, and the cursor of the next one if more than `limit` were found."""
    ordered = sorted(found, key=get_place, reverse=True)
    page = ordered[:limit]
    return page, format_cursor(get_place(page[-1])) if len(ordered) > limit else None


def format_cursor(place: Place) -> str:
    """The cursor of the page that begins after a place."""
    start, id_ = place
    return f"{float(start)!r}-{id_}"


def parse_cursor(cursor: str | None) -> Place | None:
    """The place after which a page begins; None for the first page."""
    if cursor is None:
        return None
    start, _, id_ = cursor.rpartition("-")
    return float(start), id_
