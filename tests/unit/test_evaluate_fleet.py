"""`evaluate --fleet`: one model for all entities, each compared with its own labels."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promad.experiments.cache import EvaluationCache
from promad.stages.evaluate import EvaluationOptions, evaluate
from tests.support.simulated import NAMES, config_for, host_values

POOLED = "linear, pooled"
ROWS = ("linear", POOLED, "random", "|z|", "last value", "last value smoothed")


def write(path: Path, columns: dict[str, np.ndarray]) -> None:
    pq.write_table(pa.table(columns), path)


def write_entity(folder: Path, seed: int, test: int, names: tuple[str, ...] = NAMES) -> None:
    """A history of the simulated host with one burst near the end, which is labelled."""
    folder.mkdir(parents=True)
    values = host_values(600 + test, start=1_750_000_000.0 + 86400 * seed)
    labels = np.zeros(test, np.int8)
    labels[-60:-40] = 1
    values[-60:-40, 1] *= 20
    write(folder / "train.parquet", dict(zip(names, values[:600].T, strict=True)))
    write(folder / "test.parquet", dict(zip(names, values[600:].T, strict=True)))
    write(folder / "test_label.parquet", {"label": labels})


@pytest.fixture
def data(tmp_path):
    """Two entities whose test parts differ in length."""
    for seed, samples in enumerate((200, 230)):
        write_entity(tmp_path / "data" / f"host-{'ab'[seed]}", seed, samples)
    return tmp_path / "data"


@pytest.fixture
def config(tmp_path):
    return config_for(tmp_path / "artifacts", training_settings={"model": "linear"})


def evaluate_fleet(data, config, **options):
    return evaluate(data, [config], EvaluationOptions([1], fleet=True, **options))


def test_the_pooled_row_is_beside_the_models_own_for_every_entity(data, config, tmp_path):
    found = evaluate_fleet(data, config, scores_to=tmp_path / "scores")
    assert (found.row_names, found.failed) == (ROWS, {})
    for entity, samples in (("host-a", 200), ("host-b", 230)):
        own, pooled = (found.entity_figures(row)[entity] for row in ("linear", POOLED))
        assert pooled["vus_pr"] > 0.8
        assert pooled["share_blind"] == own["share_blind"]
        scores = pq.read_table(tmp_path / "scores" / POOLED / f"{entity}.parquet")
        assert scores.num_rows == samples


def test_the_pooled_row_is_measured_at_each_alert_budget(data, config):
    found = evaluate_fleet(data, config, budgets=(1.0, 500.0))
    for figures in found.entity_figures(POOLED).values():
        for measure in ("event_recall", "false_episodes_per_week"):
            assert figures[f"budget_1_{measure}"] == figures[measure]
        assert not any(name.startswith("best_limit") for name in figures)
    mean = found.mean(POOLED)
    assert mean["budget_500_false_episodes_per_week"] > mean["budget_1_false_episodes_per_week"]


def test_an_interrupted_run_resumes_and_a_change_in_one_entity_concerns_all(data, config, tmp_path):
    cache, reused = EvaluationCache(tmp_path / "cache"), []

    def run() -> set[str]:
        reused.clear()
        options = EvaluationOptions([1], fleet=True, cache=cache)
        evaluate(
            data,
            [config],
            options,
            lambda progress: reused.append((progress.task.row, progress.reused)),
        )
        return {row for row, again in reused if again}

    assert run() == set()
    assert POOLED in run()
    label = data / "host-a" / "test_label.parquet"
    write(label, {"label": 1 - pq.read_table(label)["label"].to_numpy()})
    assert POOLED not in run()


def test_entities_with_other_columns_are_no_fleet(data, config):
    write_entity(data / "host-c", 3, 200, tuple(f"other {name}" for name in NAMES))
    found = evaluate_fleet(data, config)
    assert set(found.failed.values()) == {
        "host-c: its columns differ from those of host-a; a fleet has the same columns in all "
        "entities — choose entities with --entity, or omit --fleet"
    }


def test_one_entity_is_no_fleet(data, config):
    found = evaluate_fleet(data, config, entities=["host-a"])
    assert found.failed == {
        "host-a": "a fleet needs at least 2 entities — omit --fleet, or add entities"
    }
