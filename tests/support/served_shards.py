"""The shards of a synthetic fleet in one process: their applications ask each other by calls.

fleet = ShardedFleet(tmp_path, groups=60, shards=3, anomalous=(3, 7))
fleet.get(0, "shards/groups")
fleet.network.silence("http://shard-1:8001")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from promad.config import PeerSettings, WebSettings
from promad.data.shards import Shard, Share
from promad.detection.running_detector import RunningDetector
from promad.events.event_log import EventLog
from promad.exposition import PeerMetrics
from promad.exposition.fleet import FleetSnapshot
from promad.http_server import Security, WebServer, listen
from promad.prometheus.transport import Reply
from promad.shards import Client, OtherShards, SilentError, Timing
from promad.web.app import build_app
from promad.web.protection import protect
from tests.support.served import NOW, close_logs
from tests.support.served_fleet import create_running_fleet, log_incidents

Answer = Callable[[str], Reply]


@dataclass
class Network:
    """What is reached at which URL; a request that is sent is noted."""

    answers: dict[str, Answer] = field(default_factory=dict)
    silent: dict[str, SilentError] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def silence(self, *urls: str, timed_out: bool = False) -> None:
        words = "no response within 3 s" if timed_out else "connection failed (Connection refused)"
        self.silent |= {url: SilentError(words, timed_out=timed_out) for url in urls}

    def restore(self, url: str) -> None:
        del self.silent[url]

    def connect(self, url: str, settings: PeerSettings) -> Client:
        return _Connection(self, url)

    def take_asked(self) -> list[tuple[str, str]]:
        """The requests since the last call: URL, and path without its query."""
        taken = [(url, target.partition("?")[0]) for url, target in self.asked]
        self.asked.clear()
        return taken


@dataclass
class _Connection:
    network: Network
    url: str

    def get(self, target: str) -> Reply:
        self.network.asked.append((self.url, target))
        if self.url in self.network.silent:
            raise self.network.silent[self.url]
        return self.network.answers[self.url](target)

    def close(self) -> None:
        self.network.asked.append((self.url, "closed"))


@dataclass
class FakeTime:
    now: float = NOW

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


def name_url(shard: int, replica: str = "") -> str:
    return f"http://shard-{shard}{replica}:8001"


class ShardedFleet:
    """One daemon with all groups (`whole`), and the shards of the same fleet."""

    def __init__(
        self,
        directory: Path,
        *,
        groups: int = 60,
        shards: int = 3,
        replicas: int = 1,
        **states: Any,
    ) -> None:
        self.count = shards
        self.time = FakeTime()
        self.network = Network()
        self.registries: dict[str, CollectorRegistry] = {}
        whole = create_running_fleet(directory / "whole", groups=groups, **states)
        names = [(number, "" if copy == 0 else "b") for number in range(shards) for copy in
                 range(replicas)]  # fmt: skip
        self.urls = tuple(name_url(*each) for each in names)
        self.settings = {url: WebSettings(peers=self.urls) for url in self.urls}
        self.running = {
            url: take_share(whole, directory / f"shard-{number}{copy}", Share(number, shards))
            for url, (number, copy) in zip(self.urls, names, strict=True)
        }
        self.apps = {
            url: self._build(url, number) for url, (number, _) in zip(self.urls, names, strict=True)
        }
        self.clients = {
            url: TestClient(app, raise_server_exceptions=False) for url, app in self.apps.items()
        }
        for (
            client
        ) in self.clients.values():  # FastAPI prepares routes when they are first looked at
            client.get("/api/v1/nothing")
        self.network.answers = {url: self._answer(url) for url in self.urls}
        self.whole = TestClient(
            build_app(CollectorRegistry(), lambda: [whole], lambda: True, now=lambda: NOW)
        )
        self._logs = [whole, *self.running.values()]
        log_incidents(whole)

    def _build(self, url: str, number: int) -> Any:
        registry = self.registries[url] = CollectorRegistry()
        others = OtherShards(
            Share(number, self.count),
            lambda: self.settings[url],
            PeerMetrics(registry),
            Timing(lambda: self.time.now, lambda: self.time.now),
            self.network.connect,
        )
        return build_app(
            registry,
            lambda: [self.running[url]] if url in self.running else [],
            lambda: True,
            now=lambda: self.time.now,
            shards=others,
        )

    def _answer(self, url: str) -> Answer:
        def answer(target: str) -> Reply:
            response = self.clients[url].get(f"/{target}")
            return Reply(response.status_code, response.reason_phrase, response.content)

        return answer

    @contextmanager
    def serve(self, shard: int) -> Iterator[str]:
        """One of the shards on a real socket until the block ends; yields its address."""
        server = WebServer(protect(self.apps[name_url(shard)], Security), listen("127.0.0.1", 0))
        server.start()
        try:
            yield f"http://127.0.0.1:{server.port}"
        finally:
            server.stop()

    def ask(self, shard: int, path: str, **params: Any) -> Any:
        """The response of a shard to a request below /api/v1/."""
        return self.clients[name_url(shard)].get(f"/api/v1/{path}", params=params)

    def get(self, shard: int, path: str, **params: Any) -> Any:
        """The answer of a shard, which must be one."""
        response = self.ask(shard, path, **params)
        assert response.status_code == 200, response.text
        return response.json()

    def get_whole(self, path: str, **params: Any) -> Any:
        """The answer of the daemon with all groups."""
        return self.whole.get(f"/api/v1/{path}", params=params).json()

    def find_shard(self, group: str) -> int:
        """The shard that has a group."""
        return next(
            number
            for number in range(self.count)
            if group in {each["group"] for each in self.get(number, "groups")["groups"]}
        )

    def close(self) -> None:
        close_logs(self._logs)


def take_share(served: RunningDetector, directory: Path, share: Share) -> RunningDetector:
    """A detector with the groups of one share of a fleet, their events and its own incidents."""
    whole = served.snapshot()
    assert isinstance(whole, FleetSnapshot)
    rows = np.flatnonzero(Shard(share, ("instance", "rack")).choose(whole.columns.labels))
    arrays = {
        name: value[rows]
        for name, value in vars(whole.columns).items()
        if isinstance(value, np.ndarray)
    }
    labels = tuple(whole.columns.labels[row] for row in rows)
    snapshot = replace(
        whole,
        columns=replace(whole.columns, labels=labels, **arrays),
        build_status=lambda row: whole.build_status(int(rows[row])),
    )
    directory.mkdir()
    own = replace(served, snapshot=lambda: snapshot, events=EventLog(directory / "events.db"))
    for event in _list_events(snapshot, range(len(rows))):
        own.events.record(event, own.bundle.id, NOW)
    log_incidents(own)
    return own


def _list_events(snapshot: FleetSnapshot, rows: Sequence[int]) -> list[Any]:
    return [status.event for status in map(snapshot.build_status, rows) if status.event]
