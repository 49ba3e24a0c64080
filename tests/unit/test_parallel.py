"""Independent tasks, done here or by processes: results, failures, what travels."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import promad
from promad.cli.app import build_app
from promad.cli.backend_options import BackendName, choose_backend
from promad.cli.commands import run
from promad.config import load_config
from promad.config import read_config as parse_config
from promad.errors import PromadError
from promad.experiments.running import _hide_server, _read, _run, run_tasks
from promad.experiments.tasks import list_tasks
from promad.parallel.backend import open_engine
from promad.parallel.engine import Backend, Engine, build_connect_error
from promad.parallel.running import LOST, Failure, require_same_version, run_each
from promad.stages.preprocess import preprocess
from promad.training.group_fitting import read_group
from tests.support.parallel_work import end_process, fail_some, name_process, note_times
from tests.support.small_fleet import SmallFleet, open_material, write_collected, write_config

SECRET = "swordfish"
AUTHENTICATED = f"""
prometheus:
  basic_auth: {{username: promad, password: {SECRET}}}
  http_headers: {{X-Token: {{secrets: [{SECRET}]}}}}
"""


def items(count: int, left_out: tuple[int, ...] = ()):
    return ((number, number) for number in range(count) if number not in left_out)


# Results


def test_here_a_failed_task_is_reported_and_the_others_are_done() -> None:
    found = dict(run_each(fail_some, 10, items(5), Engine("inline")))
    assert found == {0: 0, 1: 10, 2: 20, 3: Failure("ValueError: three is not allowed"), 4: 40}


def test_a_task_that_ends_its_process_is_reported_and_the_others_are_done() -> None:
    with open_engine(Backend("loky", jobs=2)) as engine:
        found = dict(run_each(fail_some, 10, items(8), engine))
    expected = {number: 10 * number for number in range(8)}
    assert found == expected | {3: Failure("ValueError: three is not allowed"), 5: LOST}


def test_processes_are_replaced_after_so_many_tasks() -> None:
    with open_engine(Backend("loky", jobs=2)) as engine:
        recycling = replace(engine, tasks_per_call=2)
        found = dict(run_each(name_process, None, items(4), recycling))
    assert not {found[0], found[1]} & {found[2], found[3]}


def test_no_more_tasks_than_the_bound_are_worked_at_together() -> None:
    with open_engine(Backend("loky", jobs=2)) as engine:
        found = sorted(dict(run_each(note_times, None, items(6), engine, most=1)).values())
    assert all(end <= begin for (_, end), (begin, _) in pairwise(found))


# What is refused


@pytest.mark.parametrize("name", ["dask", "ray", "spark"])
def test_a_backend_that_is_not_installed_names_its_extra(monkeypatch, name) -> None:
    monkeypatch.setattr("promad.parallel.backend.find_spec", lambda module: None)
    with pytest.raises(PromadError, match=rf"pip install 'promad-exporter\[{name}\]'"):
        choose_backend(BackendName(name), None, None)


def test_a_scheduler_without_a_cluster_is_refused() -> None:
    with pytest.raises(PromadError, match="the backend loky has none"):
        choose_backend(BackendName.LOKY, "tcp://127.0.0.1:1", None)
    with pytest.raises(PromadError, match="needs --backend"):
        choose_backend(None, "tcp://127.0.0.1:1", None)


def test_a_cluster_that_does_not_start_here_is_not_said_to_be_none_at_an_address() -> None:
    here = build_connect_error(Backend("ray"), "Ray", "no memory", "ray start --head")
    assert str(here).startswith("--backend ray: Ray did not start on this machine (no memory)")
    there = build_connect_error(Backend("ray", "ray://a:1"), "Ray", "refused", "ray start --head")
    assert str(there) == (
        "--scheduler ray://a:1: no Ray cluster (refused) — start one with ray start --head"
    )


def test_run_refuses_a_backend_that_has_no_groups_to_fit(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("queries: {a: up}\n")
    result = CliRunner().invoke(build_app(), ["-c", str(config), "run", "--backend", "loky"])
    assert result.exit_code != 0
    assert "--backend loky fits groups one by one" in str(result.exception or result.output)


def test_run_gives_its_backend_to_each_training(monkeypatch) -> None:
    given = []
    for name in ("run_collect", "run_preprocess", "run_filter"):
        monkeypatch.setattr(run, name, lambda *_: None)
    monkeypatch.setattr(run, "run_trimming", lambda _, before: (*before, 1))
    monkeypatch.setattr(run, "run_train", lambda *all_: given.append(all_[3]))
    config, backend = parse_config("queries: {a: up}\n"), Backend("loky", jobs=2)
    run.run_stages(config, backend=backend)
    run.trim_and_train(config, backend=backend)
    assert len(given) > 1
    assert set(given) == {backend}


def test_a_worker_with_another_version_is_named() -> None:
    def configure():
        return {}

    engine = Engine(
        "dask", configure=configure, ask_versions=lambda: {"tcp://w:1": "9.9", "tcp://w:2": "0"}
    )
    with pytest.raises(PromadError, match=r"tcp://w:1 has promad 9\.9, this is "):
        require_same_version(engine)


def test_a_worker_that_was_replaced_by_another_version_does_no_work(monkeypatch) -> None:
    with open_engine(Backend("loky", jobs=2)) as engine:
        monkeypatch.setattr(promad, "__version__", "9.9")
        with pytest.raises(PromadError, match=r"this is 9\.9 — install promad-exporter==9\.9"):
            list(run_each(end_process, None, items(1), engine))


# What travels


def read_config(directory: Path):
    path = write_config(directory / "config.yaml", "http://server", more=AUTHENTICATED)
    return load_config(path)


def test_a_group_travels_as_its_own_samples_and_settings_without_secrets(tmp_path) -> None:
    config = read_config(tmp_path)
    assert SECRET.encode() in pickle.dumps(config)
    write_collected(config, SmallFleet({"a": (0, 700), "b": (0, 700)}))
    preprocess(config)
    data = read_group(open_material(config), 1)
    sent = pickle.dumps((config.training_settings, data))
    assert b"http://server" not in sent
    assert SECRET.encode() not in sent
    assert str(tmp_path).encode() not in sent
    assert len(sent) < 2 * data.frames[0].values.nbytes


@pytest.mark.parametrize("prepare", [_hide_server, _read])
def test_a_task_of_an_evaluation_travels_without_secrets(tmp_path, entity, prepare) -> None:
    tasks = list(list_tasks(entity, [read_config(tmp_path)], [1], "all", None))
    assert SECRET.encode() in pickle.dumps(tasks)
    assert SECRET.encode() not in pickle.dumps(prepare(tasks[:1]))


@pytest.fixture
def entity(tmp_path) -> Path:
    """One entity with labelled data."""
    chance, folder = np.random.default_rng(1), tmp_path / "data" / "one"
    folder.mkdir(parents=True)
    for name in ("train", "test"):
        values = chance.normal(size=(400, 2))
        pq.write_table(pa.table({"a": values[:, 0], "b": values[:, 1]}), folder / f"{name}.parquet")
    labels = pa.table({"label": np.arange(400) // 50 == 4})
    pq.write_table(labels, folder / "test_label.parquet")
    return folder


def test_a_worker_without_files_makes_the_same_rows_and_scores(tmp_path, entity) -> None:
    tasks = list(list_tasks(entity, [read_config(tmp_path)], [1], "all", tmp_path / "scores"))
    ((_, here),) = run_tasks([tasks], Backend("inline"))
    sent = pickle.dumps(_read(tasks))
    shutil.rmtree(entity)
    found = _run(None, pickle.loads(sent))
    scores = found[-1]["linear"].scores
    written = pq.read_table(tmp_path / "scores" / "one.parquet")
    assert scores.to_pandas().equals(written.to_pandas())
    found[-1]["linear"] = replace(found[-1]["linear"], scores=None)
    assert repr(found) == repr(here)


def test_an_entity_that_cannot_be_read_fails_alone(tmp_path, entity) -> None:
    tasks = list(list_tasks(entity, [read_config(tmp_path)], [1], "all", None))
    shutil.rmtree(entity)
    work = _read(tasks)
    assert "one" in work.unread
    ((_, found),) = run_each(_run, None, [(0, work)], Engine("inline"))
    assert found == Failure(work.unread)


def test_the_seam_imports_no_engine() -> None:
    code = (
        "import sys, promad.parallel.backend;"
        "print(sorted({'dask', 'distributed', 'joblib', 'ray', 'pyspark'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
