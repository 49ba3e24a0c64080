"""`Peer`: one daemon of `web.peers`, its shard, and whether it responds."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from promad.data.shards import Share
from promad.prometheus.transport import Reply
from promad.shards.client import Client, SilentError

log = structlog.get_logger()

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 30.0
"""How long a daemon that did not respond is not asked again: doubled each time."""
OVERVIEW = "api/v1/groups?limit=1"
"""The request for what a daemon reports of itself."""


class Overview(BaseModel):
    """What a daemon reports of itself and its groups, in the answer of `/api/v1/groups`."""

    model_config = ConfigDict(frozen=True)

    version: str
    token: str
    shard: int | None
    shard_count: int | None
    detectors: tuple[str, ...]
    total: int
    states: Mapping[str, int]

    @property
    def process(self) -> str:
        """What no other process has."""
        return self.token.partition(".")[0]


class Timing:
    """Clocks: `now` in unix seconds, and `elapsed`, which is never set back."""

    def __init__(self, now: Callable[[], float], elapsed: Callable[[], float]) -> None:
        self.now, self.elapsed = now, elapsed


@dataclass(frozen=True)
class PeerStatus:
    """How a daemon is at present.

    Attributes:
        shard: which it reported last; None if it never did, or has another number of shards.
        since: unix seconds of the first failure since it last responded; None if it responds.
        error: the newest failure since then.
    """

    url: str
    shard: int | None
    is_self: bool
    since: float | None
    error: SilentError | None
    overview: Overview | None


class Peer:
    """One daemon; threads may share it.

    If it does not respond, requests fail with its last error until a pause is over. Then one
    request tries again, and those that come meanwhile wait for how that ends.
    """

    def __init__(
        self,
        url: str,
        client: Client,
        share: Share,
        process: str,
        timing: Timing,
        count: Callable[[str, bool], None],
    ) -> None:
        """A daemon of which nothing is known.

        Args:
            share: that of the daemon which asks, `process` what its own overview has.
            count: is called with the URL and whether a request succeeded.
        """
        self.url = url
        self._client, self._timing, self._count = client, timing, count
        self._share, self._process = share, process
        self._lock = threading.Condition()
        self._is_tried = False
        self._overview: Overview | None = None
        self._identified_at = -math.inf
        self._error: SilentError | None = None
        self._since: float | None = None
        self._failed_at = self._again_at = -math.inf
        self._pause = 0.0

    @property
    def status(self) -> PeerStatus:
        """How it is at present."""
        with self._lock:
            known = self._overview
            is_self = known is not None and known.process == self._process
            shard = None if known is None else known.shard
            return PeerStatus(self.url, shard, is_self, self._since, self._error, known)

    def needs_overview(self, max_age: float) -> bool:
        """Whether its overview is older than so many seconds, or doubted."""
        with self._lock:
            return self._timing.elapsed() - self._identified_at >= max_age

    def doubt(self) -> None:
        """Ask for its overview next time, whatever its age."""
        with self._lock:
            self._identified_at = -math.inf

    def identify(self) -> None:
        """Ask which shard it has; a failure is in `status`.

        A daemon of another number of shards fails: its groups may be those of this one.
        """
        try:
            found = self._ask(OVERVIEW, self._read_overview)
        except SilentError:
            return
        with self._lock:
            self._overview, self._identified_at = found, self._timing.elapsed()

    def get(self, target: str) -> Reply:
        """The reply to a request.

        Raises:
            SilentError: if there is none, now or a few seconds ago.
        """
        return self._ask(target, lambda reply: reply)

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def _read_overview(self, reply: Reply) -> Overview:
        found = read_answer(reply, Overview)
        if found.process == self._process:
            return found
        if not found.detectors:
            raise SilentError("no detector is running yet")
        if found.shard is None or found.shard_count is None:
            raise SilentError("has no shard — start it with --shard")
        if found.shard_count != self._share.count:
            raise SilentError(
                f"has shard {found.shard}/{found.shard_count}, this daemon has {self._share} — "
                "start all daemons with the same number of shards"
            )
        return found

    def _ask[Answer](self, target: str, read: Callable[[Reply], Answer]) -> Answer:
        with self._begin() as began:
            try:
                answer = read(self._client.get(target))
            except SilentError as error:
                self._count(self.url, False)
                self._note_failure(error, began)
                raise
            self._count(self.url, True)
            self._note_success()
            return answer

    @contextmanager
    def _begin(self) -> Iterator[float]:
        """The time at which a request begins; while a silent daemon is tried again, others wait.

        Raises:
            SilentError: in a pause.
        """
        with self._lock:
            self._lock.wait_for(lambda: not self._is_tried)
            now, error = self._timing.elapsed(), self._error
            if error is not None and now < self._again_at:
                raise SilentError(str(error), timed_out=error.timed_out)
            self._is_tried = error is not None
        try:
            yield now
        finally:
            if error is not None:
                with self._lock:
                    self._is_tried = False
                    self._lock.notify_all()

    def _note_failure(self, error: SilentError, began: float) -> None:
        with self._lock:
            is_first = self._error is None
            if self._failed_at <= began:  # not for each of several requests at once
                doubled = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
                self._pause = FIRST_PAUSE_SECONDS if is_first else doubled
            self._failed_at = self._timing.elapsed()
            self._again_at = self._failed_at + self._pause
            self._error = error
            self._since = self._timing.now() if self._since is None else self._since
            self._identified_at = -math.inf
        if is_first:
            log.warning("shard does not respond", url=self.url, error=str(error))

    def _note_success(self) -> None:
        with self._lock:
            had_failed, self._error, self._since = self._error is not None, None, None
            self._pause, self._again_at = 0.0, -math.inf
        if had_failed:
            log.info("shard responds again", url=self.url)


def read_answer[Model: BaseModel](reply: Reply, model: type[Model]) -> Model:
    """The answer in a reply.

    Raises:
        SilentError: if it has another status than 200, or is no such answer.
    """
    if reply.status != HTTPStatus.OK:
        raise SilentError(describe_refusal(reply))
    try:
        return model.model_validate_json(reply.body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise SilentError(
            f"unusable answer ({place}: {first['msg']}) — check that it is promad, of this version"
        ) from None


def describe_refusal(reply: Reply) -> str:
    """The status of a reply, with its own words if it has any."""
    words = read_detail(reply) or reply.reason or "no reason"
    return f"HTTP {reply.status} ({words})"


class _Problem(BaseModel):
    detail: str


def read_detail(reply: Reply) -> str | None:
    """The sentence of a refusal of promad, at most 500 characters; None if it is something else."""
    try:
        return _Problem.model_validate_json(reply.body).detail[:500]
    except ValidationError:
        return None
