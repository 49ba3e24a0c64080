"""How far behind the clock samples are read, so that the newest one is final.

VictoriaMetrics repeats the last value for its newest 30 s (`-search.latencyOffset`), in every
answer with a step below a minute: also in the one to `time()`, which gives it away without a look
at any series.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from math import ceil, floor
from typing import Literal

import structlog

from promad.config import PrometheusSettings
from promad.errors import BusyError, PrometheusError, UnreachableError
from promad.prometheus.client import PrometheusClient

SHORTEST_SECONDS = 10.0
"""The offset at a server that repeats nothing: scrapes take time, and so do rules."""

FindOffset = Callable[[float], float]
"""How many seconds behind the clock to read, at a unix time."""

_PROBED_SECONDS = 600
_MARGIN_SECONDS = 4.0
_TOLERANCE_SECONDS = 2.0
_ASK_AGAIN_SECONDS = 600.0

log = structlog.get_logger()


def make_find_offset(
    client: PrometheusClient, setting: float | Literal["auto"], detector: str
) -> FindOffset:
    """The offset of the configuration, or what the server requires if it is `auto`."""
    if setting == "auto":
        return AutomaticOffset(client, detector).find
    return lambda _: setting


def ask_latency_offset(
    url: str, settings: PrometheusSettings, setting: float | Literal["auto"], now: float
) -> float:
    """The offset to read once, in seconds; `now` is unix seconds.

    If the server does not answer it is the shortest: what is asked next has the error to show.
    """
    if setting != "auto":
        return setting
    with closing(PrometheusClient(url, settings, retries=0)) as client:
        try:
            return choose_offset(measure_repetition(client, now))
        except PrometheusError:
            return SHORTEST_SECONDS


class AutomaticOffset:
    """The offset that a server requires; asked for at first, and again every ten minutes."""

    def __init__(self, client: PrometheusClient, detector: str) -> None:
        self._client = client
        self._log = log.bind(detector=detector)
        self._offset = SHORTEST_SECONDS
        self._asked_at: float | None = None

    def find(self, now: float) -> float:
        """Seconds; the last known ones while the server does not answer.

        A little less or more than before is no reason to change it.
        """
        if self._asked_at is not None and abs(now - self._asked_at) < _ASK_AGAIN_SECONDS:
            return self._offset
        try:
            repeated = measure_repetition(self._client, now)
        except PrometheusError:
            return self._offset
        self._asked_at = now
        offset = choose_offset(repeated)
        if abs(offset - self._offset) > _TOLERANCE_SECONDS:
            self._offset = offset
            self._log.info("latency offset chosen", seconds=offset, server_repeats=repeated)
        return self._offset


def choose_offset(repeated: float) -> float:
    """The offset at a server that repeats values for its newest `repeated` seconds."""
    return max(SHORTEST_SECONDS, repeated + _MARGIN_SECONDS if repeated else 0.0)


def measure_repetition(client: PrometheusClient, now: float) -> float:
    """For how many of the seconds before `now` (unix seconds) the server repeats values.

    Whole seconds; 0 also if the server refuses the question.

    Raises:
        PrometheusError: if the server does not answer, or not in a form that can be understood.
    """
    end = floor(now)
    try:
        answer = client.query_range(
            "time()", end - _PROBED_SECONDS, end, 1.0, subject="latency_offset: auto"
        )
    except (UnreachableError, BusyError):
        raise
    except PrometheusError as error:
        if error.reason in {"bad_data", "execution"}:
            return 0.0
        raise
    true = [
        float(at)
        for series in answer.series
        for at in series.times[abs(series.values - series.times) < 1.0]
    ]
    repeated = ceil(now - max(true)) if true else 0
    return float(repeated) if repeated > _TOLERANCE_SECONDS else 0.0
