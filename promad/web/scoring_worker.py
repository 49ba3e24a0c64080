"""The process that scores large requests, see `scoring_process`."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path

from starlette.exceptions import HTTPException

from promad.bundle import load_detector, open_bundle
from promad.errors import PromadError
from promad.scoring.detector import Detector
from promad.web.scoring import ScoringTarget, score_request
from promad.web.scoring_process import Failure, Lookup, Message, Refusal, TargetLocation

NICENESS = 10
"""Ticks and scrapes come first."""

_MOST_DETECTORS = 4


class _AbandonedError(Exception):
    """The daemon has refused the request itself."""


def serve(descriptor: int) -> None:
    """Score the requests that arrive through a socket until the daemon closes it."""
    os.nice(NICENESS)
    with suppress(EOFError, OSError), Connection(descriptor) as connection:
        while True:
            body = connection.recv_bytes()
            with suppress(_AbandonedError):
                connection.send(_answer(body, connection))


def _answer(body: bytes, connection: Connection) -> Message:
    def find(name: str | None) -> ScoringTarget:
        connection.send(Lookup(name))
        location: TargetLocation | None = connection.recv()
        if location is None:
            raise _AbandonedError
        detector = _load(location.bundle, location.threshold_value)
        return ScoringTarget(location.group, location.bundle.name, detector)

    try:
        return score_request(body, find).model_dump_json()
    except HTTPException as error:
        return Refusal(error.status_code, error.detail, _as_dict(error))
    except PromadError as error:
        return Refusal(503, str(error), {"Retry-After": "30"})
    except (EOFError, OSError, _AbandonedError):
        raise
    except Exception as error:  # noqa: BLE001 — the daemon logs it and answers
        return Failure(type(error).__name__, str(error))


def _as_dict(error: HTTPException) -> dict[str, str] | None:
    return None if error.headers is None else dict(error.headers)


@lru_cache(_MOST_DETECTORS)
def _load(directory: Path, threshold_value: float | None) -> Detector:
    return load_detector(open_bundle(directory), threshold_value)
