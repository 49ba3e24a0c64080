"""A real Dask cluster: a scheduler and two workers as processes, one of which is killed."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from promad import cli
from promad.bundle import open_detector
from promad.config import load_config
from promad.errors import PromadError
from promad.parallel import dask_cluster
from promad.parallel.backend import open_engine
from promad.parallel.dask_cluster import _require_single_threads
from promad.parallel.engine import Backend
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from promad.training import group_runs
from promad.training.group_runs import fit_groups
from tests.support.dask_processes import start_dask
from tests.support.group_work import NOTES, note_and_fit
from tests.support.simulated import silent
from tests.support.small_fleet import (
    SAMPLES,
    SmallFleet,
    at,
    open_material,
    write_collected,
    write_config,
)

GROUPS = [f"host-{number:02}" for number in range(16)]
FLEET = SmallFleet(dict.fromkeys(GROUPS, (0, SAMPLES)) | {"short": (400, 460)})


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("dask")


@pytest.fixture(scope="module")
def config(directory):
    """A fleet that was collected and preprocessed."""
    path = write_config(
        directory / "config.yaml", "http://127.0.0.1:9", training="model_scope: per_group"
    )
    config = load_config(path)
    write_collected(config, FLEET)
    preprocess(config)
    return config


@pytest.fixture(scope="module")
def cluster(directory):
    with start_dask(directory, 2, {NOTES: str(directory / "notes")}) as cluster:
        wait_for_workers(cluster.address, 2)
        yield cluster


def wait_for_workers(address: str, count: int) -> None:
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=60)


def read_notes(directory: Path) -> list[list[str]]:
    path = directory / "notes"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def test_no_group_is_lost_with_a_worker_and_none_that_has_arrived_is_fitted_again(
    cluster, config, directory, monkeypatch
) -> None:
    monkeypatch.setattr(group_runs, "fit_or_refuse", note_and_fit)
    material, kept = open_material(config), directory / "kept"
    arrived: set[Path] = set()

    def kill_half_way() -> None:
        while len(read_notes(directory)) < len(GROUPS) // 2 or not arrived:
            time.sleep(0.01)
            arrived.update(kept.glob("*"))
        cluster.workers[0].kill()

    killer = threading.Thread(target=kill_half_way)
    killer.start()
    settings = config.training_settings
    run = fit_groups(material, settings, kept, Backend("dask", cluster.address))
    killer.join()
    notes = read_notes(directory)
    begun = Counter(name for _, name in notes)
    assert (len(run.done), len(run.too_few), run.failed) == (len(GROUPS), 1, {})
    assert len({process for process, _ in notes}) == 2
    assert set(begun) == {*GROUPS, "short"}
    survivor, _ = notes[-1]
    first = {name: process for process, name in reversed(notes)}
    assert survivor not in {first[name] for name, count in begun.items() if count > 1}
    safe = [GROUPS[group] for group, path in run.done.items() if path in arrived]
    assert safe
    assert {begun[name] for name in safe} == {1}
    again = fit_groups(material, settings, kept, Backend("dask", cluster.address))
    assert len(again.done) == len(GROUPS)
    assert len(read_notes(directory)) == sum(begun.values()) + 1  # only the short one


def test_the_bundle_is_that_of_processes_on_this_machine(
    cluster, config, directory, monkeypatch, capsys
) -> None:
    here = train(config, silent, now=lambda: at(SAMPLES), backend=Backend("inline"))
    ours = open_detector(config).detector
    arguments = ["-c", directory / "config.yaml", "train", "--backend", "dask"]
    arguments += ["--scheduler", cluster.address]
    monkeypatch.setattr(sys, "argv", ["promad", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code, capsys.readouterr().err
    theirs = open_detector(config)
    assert theirs.bundle.directory != here.bundle.directory
    assert theirs.detector.table.groups == ours.table.groups
    np.testing.assert_allclose(theirs.detector.model.stack, ours.model.stack, rtol=1e-5, atol=1e-6)
    assert not list(config.artifacts_dir.glob(".group-models-*"))


def test_a_cluster_that_cannot_be_used_is_one_line(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(dask_cluster, "_CONNECT_SECONDS", 1)
    with (
        start_dask(tmp_path, 0) as empty,
        pytest.raises(PromadError, match=r"has no workers — start some with dask worker tcp:"),
        open_engine(Backend("dask", empty.address)),
    ):
        pass
    with (
        pytest.raises(PromadError, match=r"--scheduler nowhere:1: no Dask scheduler \("),
        open_engine(Backend("dask", "nowhere:1")),
    ):
        pass
    with pytest.raises(PromadError, match="has 4 threads, and may have 1"):
        _require_single_threads({"tcp://w:1": 1, "tcp://w:2": 4}, "tcp://s:1")
