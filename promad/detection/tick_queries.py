"""The queries of a tick: those of the features, and beside them those of `markers` and `mute`."""

from __future__ import annotations

from collections.abc import Callable

from promad.data.frame import align_down
from promad.detection.marker_queries import MarkerQueries
from promad.detection.muting import MuteQueries
from promad.events.mutes import Mutes


def poll_beside[Found](
    poll: Callable[[float], Found],
    at: float,
    step: float,
    mutes: Mutes,
    muting: MuteQueries | None,
    markers: MarkerQueries | None,
) -> Found:
    """What the poll brings, with the answers of `muting` in `mutes`.

    Args:
        at: unix seconds of the poll; `muting` is asked at the newest sample up to then.
        step: seconds between samples.
    """
    if markers is not None:
        markers.follow(at)
    if muting is None:
        return poll(at)
    muting.begin(align_down(at, step))
    found = poll(at)
    muting.answer(mutes)
    return found
