"""`collect` and `backtest` whose requests are made by workers: the same, within a bound."""

from __future__ import annotations

import threading
import time

import pyarrow.parquet as pq
import pytest

from promad.cli.backend_options import choose_fetching
from promad.cli.commands.backtest import format_fleet
from promad.config import load_config
from promad.detection import fleet_replay
from promad.errors import PromadError, PrometheusError
from promad.parallel.engine import Backend
from promad.stages.backtest import backtest_fleet
from promad.stages.collect import collect
from tests.support.prometheus_stub import Say, stub_server
from tests.support.small_fleet import (
    SAMPLES,
    Fault,
    SmallFleet,
    at,
    serve_fleet,
    train_fleet,
    write_config,
)

FLEET = SmallFleet(
    lives={"a": (0, SAMPLES), "b": (0, SAMPLES), "c": (0, 760), "pod": (715, 790)},
    faults=(Fault(("a", "b"), 770, 782), Fault(("c",), 740, 760)),
)
HERE = Backend("inline", requests=2)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A configuration with a bundle, and a server that answers for its fleet."""
    with serve_fleet(FLEET) as stub:
        config = load_config(
            write_config(tmp_path_factory.mktemp("world") / "config.yaml", stub.url)
        )
        train_fleet(config)
        yield config


def test_a_backtest_finds_the_same(world, monkeypatch) -> None:
    monkeypatch.setattr(fleet_replay, "_LONGEST_PIECE", 9)
    monkeypatch.setattr(fleet_replay, "_SHORTEST_PIECE", 9)
    found = [
        list(format_fleet(backtest_fleet(world, at(702), at(880), backend=backend)))
        for backend in (None, HERE)
    ]
    assert found[0] == found[1]
    assert any(": 4 groups" in line or "of 4 groups" in line for line in found[0]), found[0]


def test_collected_data_is_the_same(world) -> None:
    path = world.artifacts_dir / world.data_settings.output_filename
    tables = []
    for backend in (None, HERE, Backend("loky", jobs=2, requests=2)):
        collected = collect(world, now=at(SAMPLES), refresh=True, backend=backend)
        assert collected.chunks_from_cache == 0
        tables.append(pq.read_table(path))
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


def test_what_is_in_the_cache_is_not_fetched_again(world) -> None:
    path = world.artifacts_dir / world.data_settings.output_filename
    data = world.data_settings.model_copy(update={"cache_chunk_hours": 1.0})
    config = world.model_copy(update={"data_settings": data})
    first = collect(config, now=at(SAMPLES), backend=HERE)
    table = pq.read_table(path)
    again = collect(config, now=at(SAMPLES), backend=HERE)
    assert again.chunks_from_cache > 0
    assert again.requests < first.requests
    assert pq.read_table(path).equals(table)


def test_a_query_that_fails_is_named(tmp_path) -> None:
    with stub_server(lambda _: Say(422)) as stub:
        config = load_config(write_config(tmp_path / "config.yaml", stub.url))
        with pytest.raises(PrometheusError, match=r"^query cpu: "):
            collect(config, now=at(SAMPLES), backend=HERE)


def test_workers_make_no_more_requests_at_once_than_the_bound(tmp_path) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def answer(asked):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return FLEET.answer(asked)

    with stub_server(answer) as stub:
        config = load_config(write_config(tmp_path / "config.yaml", stub.url))
        collect(config, now=at(SAMPLES), backend=Backend("loky", jobs=2, requests=1))
    assert most == 1


def test_secrets_are_sent_to_a_cluster_only_if_asked(tmp_path) -> None:
    more = "prometheus: {authorization: {credentials: swordfish}}\n"
    config = load_config(write_config(tmp_path / "config.yaml", "http://server", more=more))
    cluster = Backend("dask", "tcp://10.0.0.5:8786")
    with pytest.raises(PromadError, match="would get the passwords or tokens of prometheus — use"):
        choose_fetching(config, cluster, 4, send_secrets=False)
    sent = choose_fetching(config, cluster, 3, send_secrets=True)
    assert sent is not None
    assert sent.requests == 3
    assert choose_fetching(config, Backend("loky"), 4, send_secrets=False) is not None
    files = "prometheus: {basic_auth: {username: a, password_file: p}}\n"
    safe = load_config(write_config(tmp_path / "other.yaml", "http://server", more=files))
    assert choose_fetching(safe, cluster, 4, send_secrets=False) is not None


def test_without_groups_there_is_nothing_to_split(tmp_path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("queries: {load: node_load1}\n")
    with pytest.raises(PromadError, match="--backend loky needs group_by"):
        choose_fetching(load_config(path), Backend("loky"), 4, send_secrets=False)
