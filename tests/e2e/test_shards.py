"""Three shards over 200 groups of a real Prometheus: one is killed and restarted, one is added.

Time is a test's: the daemons tick once for each step, however long that takes.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import expect

from promad.config import Config, WebSettings, load_config
from promad.data.shards import Shard, Share
from promad.detection.daemon import Daemon
from promad.detection.state_file import FILE_NAME
from promad.exposition.fleet import FleetSnapshot
from promad.stages.detect import detect
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from tests.support.browser import chromium
from tests.support.prometheus_server import PrometheusServer, free_port, openmetrics
from tests.support.small_fleet import (
    FEATURES,
    TRAINED,
    Fault,
    SmallFleet,
    at,
    write_collected,
    write_config,
)

HOSTS = [f"host-{number:03d}.example.com:9100" for number in range(200)]
SHARDS = 3
FIRST, KILLED, RESTARTED, ADDED, LAST = (TRAINED + after for after in (40, 45, 47, 50, 72))
SETTLED_TICKS = 2
"""After a start, within which every group is watched by its shard and by no other."""
FAULTS = (
    Fault(tuple(HOSTS[3:11]), FIRST + 2, RESTARTED + 1),
    Fault(tuple(HOSTS[60:72]), ADDED - 4, ADDED + 4),
    Fault((HOSTS[150],), KILLED + 1, KILLED + 6),
)
TRAINED_HOSTS = 30
"""The others are calibrated by those that they resemble."""
SEEN_BEFORE = 60
"""Samples that Prometheus has from before the first tick."""


class HandClock:
    """A clock that a test moves on; whoever waits is woken."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._moved = threading.Condition()

    def now(self) -> float:
        return self._now

    def elapsed(self) -> float:
        return self._now

    def move_to(self, now: float) -> None:
        with self._moved:
            self._now = now
            self._moved.notify_all()

    def wait_until(self, at: float, stop: threading.Event) -> None:
        with self._moved:
            while self._now < at and not stop.is_set():
                self._moved.wait(0.02)


class Fleet:
    """The daemons of one directory, by the number of their shard; -1 for one of all groups."""

    def __init__(self, config: Config, clock: HandClock) -> None:
        self.config, self.clock = config, clock
        self.running: dict[int, Daemon] = {}

    def start(self, number: int, count: int) -> None:
        daemon = Daemon([self.config], self.clock, share=Share(number, count) if count else None)
        daemon.start([self.config])
        self.running[number] = daemon
        self.wait()

    def stop(self, number: int) -> None:
        self.running.pop(number).stop()

    def kill(self, number: int) -> None:
        """Stop a daemon with the file of its state as it was before, as no end would save it."""
        path = self.config.artifacts_dir / "shards" / str(number) / FILE_NAME
        before = path.with_name("before")
        shutil.copyfile(path, before)
        self.stop(number)
        before.replace(path)

    def wait(self) -> None:
        """Until every daemon has judged the present sample."""
        deadline = time.monotonic() + 60
        for daemon in self.running.values():
            while self.snapshot(daemon).groups == () or (
                max(each.verdict.at for each in self.snapshot(daemon).groups) < self.clock.now()
            ):
                assert time.monotonic() < deadline
                time.sleep(0.005)

    def snapshot(self, daemon: Daemon) -> FleetSnapshot:
        (served,) = daemon.served()
        snapshot = served.snapshot()
        assert isinstance(snapshot, FleetSnapshot)
        return snapshot

    def count_watched(self) -> Counter[str]:
        """By host how many daemons have a score of it."""
        return Counter(
            each.group[0][1]
            for daemon in self.running.values()
            for each in self.snapshot(daemon).groups
            if each.verdict.score is not None
        )

    def read_events(self) -> dict[tuple[str, float, str], list[str | None]]:
        """By group, start and id the ends of each event in all logs."""
        found: dict[tuple[str, float, str], list[str | None]] = {}
        for daemon in self.running.values():
            for each in daemon.served()[0].events.find(limit=10_000):
                key = each.event.group, each.event.start, each.event.id
                found.setdefault(key, []).append(each.end_reason)
        return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Config]:
    directory = tmp_path_factory.mktemp("shards")
    fleet = SmallFleet(dict.fromkeys(HOSTS, (0, 900)), FAULTS)
    samples = range(FIRST - SEEN_BEFORE, LAST + 1)
    series = {
        f'{feature}{{instance="{host}",job="node"}}': [(at(n), values[n, column]) for n in samples]
        for host in HOSTS
        for values in [fleet.values(host)]
        for column, feature in enumerate(FEATURES)
    }
    server = PrometheusServer(directory / "prometheus")
    server.backfill(openmetrics(series))
    with server:
        config = load_config(write_config(directory / "config.yaml", server.url))
        begins = [TRAINED - 300 if n < TRAINED_HOSTS else TRAINED for n in range(len(HOSTS))]
        lives = {host: (begin, 900) for host, begin in zip(HOSTS, begins, strict=True)}
        write_collected(config, replace(fleet, lives=lives))
        preprocess(config)
        train(config, lambda *_: None, now=lambda: at(TRAINED))
        yield config


@pytest.mark.slow  # four daemons, 32 ticks
def test_every_group_is_watched_once_and_no_event_is_lost_or_doubled(
    trained: Config, tmp_path: Path
) -> None:
    clock = HandClock(at(FIRST))
    alone = trained.model_copy(update={"artifacts_dir": tmp_path / "alone"})
    shutil.copytree(
        trained.artifacts_dir / "bundles", tmp_path / "alone" / "bundles", symlinks=True
    )
    whole, shards = Fleet(alone, clock), Fleet(trained, clock)
    try:
        whole.start(-1, 0)
        for number in range(SHARDS):
            shards.start(number, SHARDS)
        settled_at = FIRST + SETTLED_TICKS
        for sample in range(FIRST + 1, LAST):
            clock.move_to(at(sample))
            whole.wait()
            shards.wait()
            if sample == KILLED:
                shards.kill(1)
            if sample == RESTARTED:
                shards.start(1, SHARDS)
                settled_at = sample + SETTLED_TICKS
            if sample == ADDED:
                shards.start(SHARDS, SHARDS + 1)
                for number in range(SHARDS):
                    shards.stop(number)
                    shards.start(number, SHARDS + 1)
                settled_at = sample + SETTLED_TICKS
            if sample >= settled_at and not KILLED <= sample < RESTARTED:
                assert shards.count_watched() == Counter(HOSTS), sample
        expected, found = whole.read_events(), shards.read_events()
        assert len(expected) >= 21
        assert found.keys() == expected.keys()
        endings = Counter(tuple(sorted(map(str, ends))) for ends in found.values())
        assert endings.keys() == {("quiet",), ("moved", "quiet")}
    finally:
        for fleet in (whole, shards):
            for number in list(fleet.running):
                fleet.stop(number)


class ServedFleet(Fleet):
    """Shards that serve their pages and know each other by `web.peers`."""

    def __init__(self, trained: Config, clock: HandClock, directory: Path) -> None:
        self.ports = [free_port() for _ in range(SHARDS)]
        self.urls = [f"http://127.0.0.1:{port}" for port in self.ports]
        bundles = trained.artifacts_dir / "bundles"
        shutil.copytree(bundles, directory / "bundles", symlinks=True)
        own = {"artifacts_dir": directory, "web": WebSettings(peers=tuple(self.urls))}
        super().__init__(trained.model_copy(update=own), clock)
        self.serving: dict[int, AbstractContextManager[Daemon]] = {}

    def start(self, number: int, count: int) -> None:
        serving = detect(
            [self.config],
            self.clock,
            "127.0.0.1",
            self.ports[number],
            share=Share(number, count),
        )
        self.running[number] = serving.__enter__()
        self.serving[number] = serving
        self.wait()

    def stop(self, number: int) -> None:
        self.running.pop(number)
        self.serving.pop(number).__exit__(None, None, None)

    def get(self, number: int, path: str) -> Any:
        answer = requests.get(f"{self.urls[number]}/api/v1/{path}", timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()


def test_each_page_shows_all_shards_and_which_of_them_was_killed(
    trained: Config, tmp_path: Path
) -> None:
    clock = HandClock(at(FIRST))
    fleet = ServedFleet(trained, clock, tmp_path / "artifacts")
    owners = [Shard(Share(number, SHARDS), ("instance",)) for number in range(SHARDS)]
    try:
        for number in range(SHARDS):
            fleet.start(number, SHARDS)
        for sample in range(FIRST + 1, FIRST + 5):
            clock.move_to(at(sample))
            fleet.wait()
        for number in range(SHARDS):
            merged = fleet.get(number, "shards/groups?sort=name&limit=500")
            assert [each["labels"]["instance"] for each in merged["groups"]] == HOSTS
            assert merged["total"] == sum(merged["states"].values()) == len(HOSTS)
            for each in merged["groups"]:
                assert owners[each["shard"]].owns(tuple(each["labels"].items()))
        odd = merged["states"]["anomalous"]
        assert odd > 0
        with chromium() as browser:
            page = browser.new_page()
            page.goto(fleet.urls[0])
            rows = page.locator("table.groups tbody tr")
            expect(page.locator("#list-note")).to_contain_text("of 200 groups")
            expect(page).to_have_title(f"{odd} anomalous · promad")
            distant = rows.filter(has_text="shard 2").first
            distant.get_by_role("link").click()
            expect(page.locator("#group-score strong")).to_contain_text("×")
            page.go_back()
            fleet.stop(1)
            left = fleet.get(0, "shards/groups?limit=500")
            silent = left["shards"][1]
            assert (silent["responds"], silent["url"]) == (False, fleet.urls[1])
            assert silent["error"] == "connection failed (Connection refused)"
            assert silent["since"] == clock.now()
            assert {each["shard"] for each in left["groups"]} == {0, 2}
            assert left["total"] == len(left["groups"]) < len(HOSTS)
            page.reload()
            expect(page.locator("#silent")).to_contain_text(f"Shard 1 ({fleet.urls[1]}) has not")
            expect(page).to_have_title(re.compile("only 2 of 3 shards"))
            expect(rows.filter(has_text="shard 1")).to_have_count(0)
            fleet.start(1, SHARDS)
            clock.move_to(at(FIRST + 6))
            fleet.wait()
            page.reload()
            expect(page.locator("#list-note")).to_contain_text("of 200 groups")
            expect(page.locator("#silent")).to_be_hidden()
    finally:
        for number in list(fleet.running):
            fleet.stop(number)
