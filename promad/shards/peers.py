"""`Peers`: the daemons in `web.peers`, by shard; of replicas, the first that responds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from promad.data.shards import Share
from promad.prometheus.transport import Reply
from promad.shards.client import SilentError
from promad.shards.peer import Overview, Peer, PeerStatus

OVERVIEW_SECONDS = 30.0
"""After this time a daemon is asked again which shard it has."""


@dataclass(frozen=True)
class Outcome[Answer]:
    """What came of asking a shard: an answer, or an error.

    Attributes:
        url: of the daemon that answered, or else of one that did not; None if none is known.
        since: unix seconds since when the shard has not responded; None if that is not known.
    """

    url: str | None = None
    answer: Answer | None = None
    error: SilentError | None = None
    since: float | None = None


class Peers:
    """The daemons of one configuration. Threads may share it."""

    def __init__(self, share: Share, peers: Sequence[Peer]) -> None:
        self.share = share
        self._peers = peers

    @property
    def statuses(self) -> list[PeerStatus]:
        """How each daemon is at present, in the order of the configuration."""
        return [peer.status for peer in self._peers]

    @property
    def others(self) -> list[int]:
        """The numbers of all shards but this daemon's."""
        return [each for each in range(self.share.count) if each != self.share.number]

    def identify(self, max_age: float = OVERVIEW_SECONDS) -> None:
        """Ask the daemons whose shard is not known, or was reported before `max_age` seconds."""
        run_all(peer.identify for peer in self._peers if peer.needs_overview(max_age))

    def ask[Answer](self, shard: int, target: str, read: Callable[[Reply], Answer]) -> Answer:
        """What `read` makes of the reply of another shard.

        Raises:
            SilentError: if no daemon of the shard responds, with the shard and the URL.
        """
        self.identify()
        outcome = self._ask_replicas(shard, target, read)
        if outcome.answer is not None:
            return outcome.answer
        error = outcome.error or SilentError("no daemon has reported this shard")
        where = f"shard {shard}" if outcome.url is None else f"shard {shard} ({outcome.url})"
        raise SilentError(f"{where}: {error}", timed_out=error.timed_out)

    def ask_others[Answer](
        self, target: str, read: Callable[[Reply], Answer]
    ) -> Mapping[int, Outcome[Answer]]:
        """What came of asking each of the other shards, at the same time."""
        self.identify()
        outcomes: dict[int, Outcome[Answer]] = {}

        def ask(shard: int) -> None:
            outcomes[shard] = self._ask_replicas(shard, target, read)

        run_all(lambda shard=shard: ask(shard) for shard in self.others)  # type: ignore[misc]
        return outcomes

    def summarise(self) -> Mapping[int, Outcome[Overview]]:
        """The overview of each of the other shards, as last asked for."""
        return {shard: self._summarise_shard(shard) for shard in self.others}

    def _summarise_shard(self, shard: int) -> Outcome[Overview]:
        found = [each for each in self.statuses if each.shard == shard]
        for status in found:
            if status.error is None:
                return Outcome(status.url, status.overview)
        return self._describe_silence(found)

    def close(self) -> None:
        """Close every connection."""
        for peer in self._peers:
            peer.close()

    def _ask_replicas[Answer](
        self, shard: int, target: str, read: Callable[[Reply], Answer]
    ) -> Outcome[Answer]:
        failed: Outcome[Answer] | None = None
        missed: Outcome[Answer] | None = None
        tried = [peer for peer in self._peers if peer.status.shard == shard]
        for peer in tried:
            try:
                reply = peer.get(target)
            except SilentError as error:
                missed = Outcome(peer.url, error=error)
                continue
            try:
                return Outcome(peer.url, read(reply))
            except SilentError as error:
                peer.doubt()  # it may have become another one
                failed = Outcome(peer.url, error=error)
        statuses = [peer.status for peer in tried]
        if missed and all(each.error is None for each in statuses):  # it responds again by now
            return failed or missed
        return failed or self._describe_silence(statuses)

    def _describe_silence[Answer](self, found: Sequence[PeerStatus]) -> Outcome[Answer]:
        """The error of a shard of which these are all daemons.

        Without any, it is one of those that have never responded.
        """
        silent = [each for each in found if each.error is not None]
        if silent:
            first = silent[0]
            since = max(each.since or 0.0 for each in silent)
            return Outcome(first.url, error=first.error, since=since)
        unknown = [each for each in self.statuses if each.error is not None and each.shard is None]
        if not unknown:
            return Outcome(error=SilentError("no daemon in web.peers has this shard"))
        each = "; ".join(f"{status.url}: {status.error}" for status in unknown[:3])
        since = min(status.since or 0.0 for status in unknown)
        timed_out = all(status.error and status.error.timed_out for status in unknown)
        return Outcome(error=SilentError(each, timed_out=timed_out), since=since)


def run_all(tasks: Iterable[Callable[[], None]]) -> None:
    """Run all of them at the same time, the last one on the thread of the caller.

    Their threads do not keep the process from ending. The first unexpected error is raised.
    """
    errors: list[Exception] = []

    def run(task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:  # noqa: BLE001 (raised below)
            errors.append(error)

    *others, last = [*tasks] or [lambda: None]
    threads = [threading.Thread(target=run, args=[each], daemon=True) for each in others]
    for thread in threads:
        thread.start()
    run(last)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
