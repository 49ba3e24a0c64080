"""`OtherShards`: the peers of the configuration in use."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable

from promad.config import PeerSettings, WebSettings
from promad.data.shards import Share
from promad.exposition import PeerMetrics
from promad.prometheus.transport import Reply
from promad.shards.client import Client, open_client
from promad.shards.peer import Peer, Timing
from promad.shards.peers import Peers

MOST_AT_ONCE = 16
"""Requests to other daemons at the same time; further ones wait."""


class OtherShards:
    """The other shards of a daemon with a shard, as its configuration names them.

    Threads may share it.
    """

    def __init__(
        self,
        share: Share,
        find_settings: Callable[[], WebSettings | None],
        metrics: PeerMetrics,
        timing: Timing,
        open_client: Callable[[str, PeerSettings], Client] = open_client,
    ) -> None:
        """Nothing is asked yet.

        Args:
            share: the daemon's own.
            find_settings: the settings in use; None while the daemon starts.
        """
        self.share = share
        self.process = secrets.token_hex(4)
        self._find_settings = find_settings
        self._metrics, self._timing, self._open_client = metrics, timing, open_client
        self._slots = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._lock = threading.Lock()
        self._used: tuple[tuple[str, ...], PeerSettings] = ((), PeerSettings())
        self._peers: Peers | None = None

    def find(self) -> Peers | None:
        """The daemons in `web.peers`; None without any, and while the daemon starts."""
        settings = self._find_settings()
        if settings is None:
            return None
        wanted = settings.peers, settings.peers_http_config
        with self._lock:
            if wanted != self._used:
                self._replace(*wanted)
                self._used = wanted
            return self._peers

    def _replace(self, urls: tuple[str, ...], settings: PeerSettings) -> None:
        before, self._peers = self._peers, None
        if before is not None:
            before.close()
        self._metrics.begin(urls)
        if urls:
            self._peers = Peers(self.share, [self._make_peer(url, settings) for url in urls])

    def _make_peer(self, url: str, settings: PeerSettings) -> Peer:
        client = _Limited(self._open_client(url, settings), self._slots)
        return Peer(
            url, client, self.share, self.process, self._timing, self._metrics.count_request
        )


class _Limited:
    """A client that waits while too many requests are under way."""

    def __init__(self, client: Client, slots: threading.Semaphore) -> None:
        self._client, self._slots = client, slots

    def get(self, target: str) -> Reply:
        with self._slots:
            return self._client.get(target)

    def close(self) -> None:
        self._client.close()
