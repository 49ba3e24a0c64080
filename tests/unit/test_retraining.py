"""Training by a timer: when there is something to do, and what happens to old bundles."""

import json
import shutil
import sys
import time

import pytest
import structlog

from promad.bundle import MANIFEST_FILE, BundleStore
from promad.bundle.manifest import name_digest
from promad.cli import app as cli
from promad.cli.commands.train import format_training
from promad.config import load_config
from promad.config.training_digests import digest_training
from promad.data.shards import Share
from promad.errors import DataError
from promad.simulation import SimulatedHost, SimulationServer
from promad.stages import train as train_stage
from promad.stages.train import train
from promad.training.due import find_due
from tests.support.simulated import NOW, silent

DAY = 86400.0


def due(sketched, config=None, age=0.0, longest=7 * DAY):
    digests = digest_training(config or sketched.config)
    return find_due(sketched.store, digests, longest, NOW + age)


def retrain(config, later, **options):
    return train(config, silent, now=lambda: NOW + later, **options)


def add_older(sketched, number):
    """Copies of the bundle with names of earlier times."""
    store = sketched.store
    for day in range(1, number + 1):
        name = f"2020010{day}T000000Z-{sketched.bundle.id.partition('-')[2]}"
        shutil.copytree(store.root / sketched.bundle.id, store.root / name)


def with_keys(config, section, **keys):
    return config.model_copy(update={section: getattr(config, section).model_copy(update=keys)})


def test_a_young_bundle_of_the_same_configuration_is_left_alone(sketched):
    found = due(sketched, age=3 * 3600 + 7)
    assert not found.is_due
    assert found.reason == (
        f"bundle {sketched.bundle.id} is 3h old (limit 7d), and the configuration for training is "
        "unchanged"
    )


@pytest.mark.parametrize(("age", "is_due"), [(7 * DAY - 1, False), (7 * DAY, True), (-60.0, False)])
def test_an_old_bundle_is_replaced(sketched, age, is_due):
    assert due(sketched, age=age).is_due == is_due


def test_without_a_bundle_there_is_something_to_do(sketched):
    shutil.rmtree(sketched.store.root)
    assert due(sketched) == (found := due(sketched))
    assert (found.is_due, found.reason) == (True, "no bundle yet")


def test_a_damaged_bundle_is_replaced(sketched):
    (sketched.store.root / sketched.bundle.id / "threshold.json").write_text("{}")
    found = due(sketched)
    assert found.is_due
    assert found.reason.startswith("the current bundle is unusable (")


def test_a_bundle_that_does_not_record_its_settings_is_replaced(sketched):
    bundle = retrain(sketched.config, 1, digests={}).bundle
    assert (
        due(sketched).reason == f"bundle {bundle.id} does not record the settings of its training"
    )
    assert due(sketched).is_due


def test_a_bundle_without_the_field_is_read(sketched):
    """As versions before this one have written it."""
    directory = sketched.store.root / sketched.bundle.id
    raw = json.loads((directory / MANIFEST_FILE).read_text())
    del raw["settings"]
    content = json.dumps(raw).encode()
    (directory / MANIFEST_FILE).write_bytes(content)
    renamed = directory.rename(directory.with_name(f"20200101T000000Z-{name_digest(content)}"))
    assert sketched.store.open(renamed.name).manifest.settings == {}


CHANGED = [
    ("training_settings", {"epochs": 4}),
    ("training_settings", {"train_on_filtered_sequences": True}),
    ("data_settings", {"collection_period_hours": 24.0}),
    ("preprocessing_settings", {"max_fill_steps": 1}),
    ("data_filtering_settings", {"trim_share": 0.1}),
    ("real_time_anomaly_detection", {"enter_after_samples": 1}),
    ("prometheus", {"params": {"dedup": ("true",)}}),
]
UNCHANGED = [
    ("training_settings", {"keep_bundles": 3}),
    ("training_settings", {"model_output_filename": "other.keras"}),
    ("data_settings", {"output_filename": "other.parquet"}),
    ("real_time_anomaly_detection", {"exporter_port": 9000}),
    ("prometheus", {"timeout": 5.0}),
    ("web", {"runbook_url": "https://runbooks.example"}),
]


@pytest.mark.parametrize(("section", "keys"), CHANGED)
def test_settings_that_training_depends_on_are_noticed(sketched, section, keys):
    found = due(sketched, with_keys(sketched.config, section, **keys))
    assert (found.is_due, found.reason) == (
        True,
        f"{section} changed since bundle {sketched.bundle.id}",
    )


@pytest.mark.parametrize(("section", "keys"), UNCHANGED)
def test_other_settings_are_not(sketched, section, keys):
    assert not due(sketched, with_keys(sketched.config, section, **keys)).is_due


@pytest.mark.parametrize(
    ("most", "current", "left"),
    [
        (2, -1, [2, 3]),
        (3, -1, [1, 2, 3]),
        (9, -1, [0, 1, 2, 3]),
        (2, 0, [0, 1, 2, 3]),
        (2, 1, [1, 2, 3]),
    ],
)
def test_the_oldest_bundles_are_removed_up_to_the_current_one(sketched, most, current, left):
    store = sketched.store
    add_older(sketched, 3)
    ids = store.ids()
    store.promote(ids[current])
    removed = store.remove_old(most)
    assert store.ids() == [ids[place] for place in left]
    assert removed == [name for name in ids if name not in store.ids()]
    assert store.current_id() == ids[current]
    assert list(store.root.glob(".*")) == []


def test_train_removes_them_after_the_new_bundle_is_in_use(sketched):
    config = with_keys(sketched.config, "training_settings", keep_bundles=2)
    add_older(sketched, 2)
    older = sketched.store.ids()[:2]
    report = retrain(config, 1)
    assert report.removed == older
    assert sketched.store.ids() == [sketched.bundle.id, report.bundle.id]
    assert "  2 old bundles removed (keep_bundles)" in format_training(report)


def test_a_bundle_that_cannot_be_removed_is_logged(sketched, monkeypatch):
    add_older(sketched, 2)

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("promad.bundle.store.shutil.rmtree", refuse)
    with structlog.testing.capture_logs() as logs:
        assert sketched.store.remove_old(2) == []
    (line,) = logs
    assert line["event"] == "old bundle not removed"
    assert line["bundle"].startswith("20200101T000000Z-")


def test_a_training_that_fails_removes_nothing_and_leaves_the_current_bundle(sketched, monkeypatch):
    config = with_keys(sketched.config, "training_settings", keep_bundles=2)
    add_older(sketched, 2)
    before = sketched.store.current_id(), sketched.store.ids()

    def refuse(*_):
        raise DataError("gate failed: …")

    monkeypatch.setattr(train_stage, "fit_detector", refuse)
    with pytest.raises(DataError, match="gate failed"):
        retrain(config, 1)
    assert (sketched.store.current_id(), sketched.store.ids()) == before


# The commands


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command in this process: exit code, and what it printed last."""

    def run_command(*arguments):
        monkeypatch.setattr(sys, "argv", ["promad", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out.splitlines(), err

    return run_command


@pytest.fixture(scope="module")
def server():
    host = SimulatedHost(seed=7, restarted_at=time.time() - 40_000.0)
    with SimulationServer(host) as url:
        yield url


def write(path, url, components=3):
    path.write_text(
        f"prometheus_url: {url}\nartifacts_dir: artifacts\n"
        "queries: {load: host_load1, busy: host_cpu_busy_ratio}\n"
        "data_settings: {collection_period_hours: 3}\n"
        f"training_settings: {{keep_bundles: 2, linear: {{components: {components}}}}}\n"
    )
    return path


def test_run_trains_if_there_is_something_to_do_only(tmp_path, server, run):
    file = write(tmp_path / "config.yaml", server)
    code, lines, _ = run("-c", file, "run", "--if-older-than", "7d")
    assert (code, lines[0]) == (0, "run: no bundle yet; training")
    store = BundleStore.of(load_config(file))
    (first,) = store.ids()
    for command in ("run", "train"):
        code, lines, _ = run("-c", file, command, "--if-older-than", "7d")
        assert code == 0
        (line,) = lines
        assert line.startswith(f"{command}: bundle {first} is ")
        assert line.endswith(
            " old (limit 7d), and the configuration for training is unchanged; nothing to do"
        )
    write(file, server, components=2)
    time.sleep(max(0.0, 1.01 - time.time() % 1))  # bundles are named by the second
    code, lines, _ = run("-c", file, "train", "--if-older-than", "7d")
    assert (code, lines[0]) == (
        0,
        f"train: training_settings changed since bundle {first}; training",
    )
    assert store.current_id() != first
    code, _, error = run("-c", file, "run", "--if-older-than", "7")
    assert code == 2
    assert "invalid duration 7: not a duration" in error


def test_run_records_whether_it_trained_again(tmp_path, run, monkeypatch):
    recorded = []

    def record(*_, digests=None, **__):
        recorded.append(digests)

    monkeypatch.setattr("promad.cli.commands.run.run_stages", record)
    monkeypatch.setattr(
        "promad.cli.commands.run.trim_and_train", lambda *given: recorded.append(given[2])
    )
    file = write(tmp_path / "config.yaml", "http://127.0.0.1:9")
    run("-c", file, "run")
    run("-c", file, "run", "--retrain")
    plain, before, after = recorded
    assert plain == digest_training(load_config(file))
    assert before == after != plain


@pytest.mark.parametrize(("given", "share"), [("1/3", Share(1, 3)), ("", None), (None, None)])
def test_run_detects_with_the_shard_of_the_environment(tmp_path, run, monkeypatch, given, share):
    shares = []
    monkeypatch.setattr("promad.cli.commands.run.run_stages", lambda *_, **__: 0)
    monkeypatch.setattr("promad.cli.commands.run.run_detect", lambda _, share: shares.append(share))
    if given is None:
        monkeypatch.delenv("PROMAD_SHARD", raising=False)
    else:
        monkeypatch.setenv("PROMAD_SHARD", given)
    run("-c", write(tmp_path / "config.yaml", "http://127.0.0.1:9"), "run", "--detect")
    assert shares == [share]


def test_run_refuses_a_wrong_shard_before_it_begins(tmp_path, run, monkeypatch):
    monkeypatch.setattr("promad.cli.commands.run.run_stages", lambda *_, **__: pytest.fail("ran"))
    monkeypatch.setenv("PROMAD_SHARD", "x")
    code, _, error = run(
        "-c", write(tmp_path / "config.yaml", "http://127.0.0.1:9"), "run", "--detect"
    )
    assert code == 2
    assert "--shard x: not NUMBER/COUNT" in " ".join(error.split())
