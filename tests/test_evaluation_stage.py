"""`evaluate`: the stages on labelled data, every row beside the naive ones, all of it checkable."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from simulated import LENGTH, NAMES, config_for, host_values

from promad.cli import running
from promad.errors import DataError
from promad.evaluation.agreement import alarms
from promad.evaluation.figures import (
    FOR_COMPARISON_WITH_PAPERS,
    Judged,
    all_figures,
    mean_figures,
    median_figures,
)
from promad.evaluation.naive import NAIVE
from promad.evaluation.ranking import vus
from promad.stages.evaluate import evaluate

ROWS = ("lstm_autoencoder", *NAIVE)


def write_entity(folder, seed, times=False):
    """A history of the simulated host with one burst, which is labelled and explained."""
    folder.mkdir(parents=True)
    values = host_values(500, start=1_750_000_000.0 + 86400 * seed)
    labels = np.zeros(200, np.int8)
    labels[120:140] = 1
    values[420:440, 1] *= 20
    write(folder / "train.parquet", dict(zip(NAMES, values[:300].T, strict=True)))
    write(folder / "test.parquet", dict(zip(NAMES, values[300:].T, strict=True)))
    write(folder / "test_label.parquet", {"label": labels})
    (folder / "interpretation.txt").write_text("120-140:2\n")
    if times:
        write(folder / "train_timestamp.parquet", {"timestamp": np.arange(300) * 3600})
        write(folder / "test_timestamp.parquet", {"timestamp": (300 + np.arange(200)) * 3600})


def write(path, columns):
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def data(tmp_path):
    for seed, entity in enumerate(("host-a", "host-b")):
        write_entity(tmp_path / "data" / entity, seed)
    return tmp_path / "data"


@pytest.fixture
def config(tmp_path, stub_model):
    return config_for(tmp_path / "artifacts", training_settings={"train_split_ratio": 0.6})


def test_the_command_shows_the_naive_rows_below_the_model_and_writes_every_figure(
    data, config, tmp_path, capsys
):
    written = tmp_path / "figures.json"
    running.evaluate(data, config, range(2), ["host-a"], 1, written, tmp_path / "scores")
    head, *rows, last = capsys.readouterr().out.splitlines()
    assert head.split() == [
        "VUS-PR",
        "VUS-ROC",
        "AUC-PR",
        "recall",
        "precision",
        "false/week",
        "affil.",
        "F1",
    ]
    assert [row.removeprefix("  ").split("  ")[0] for row in rows] == list(ROWS)
    assert last.startswith("evaluate: means over 1 entities and 2 seeds; VUS over 100 samples; ")
    figures = json.loads(written.read_text())
    assert figures["seeds"] == [config.training_settings.seed + seed for seed in (0, 1)]
    first = rows[0].split()[1]
    assert float(first) == pytest.approx(figures["rows"][ROWS[0]]["mean"]["vus_pr"], abs=5e-4)
    assert len(list((tmp_path / "scores").glob("seed-*/host-a.parquet"))) == 2


def test_every_row_has_every_figure_for_every_entity(data, config):
    outcome = evaluate(data, config, [1])
    content = json.loads(json.dumps(outcome.to_json(), allow_nan=False))
    assert tuple(content["rows"]) == ROWS == outcome.row_names
    names = set(content["rows"]["random"]["mean"])
    assert {"vus_pr", "event_recall", "affiliation_f1", "segment_hit_rate_at_100"} <= names
    for row in content["rows"].values():
        assert set(row["entities"]) == set(row["seeds"]) == {"host-a", "host-b"}
        assert all(set(figures) == names for figures in row["entities"].values())
        values = [figures["vus_pr"] for figures in row["entities"].values()]
        assert row["mean"]["vus_pr"] == pytest.approx(np.mean(values))
        assert row["median"]["vus_pr"] == pytest.approx(np.median(values))
    assert content["vus_window_samples"] == 100


def test_what_is_only_for_papers_has_chance_beside_it(data, config):
    outcome = evaluate(data, config, [1], entities=["host-b"])
    for figures in (outcome.found["host-b"][1][row] for row in ROWS):
        for name in ("point_adjusted_f1", "pa_20_f1"):
            assert 0 < figures[f"{FOR_COMPARISON_WITH_PAPERS}{name}_of_random"] <= 1
            assert FOR_COMPARISON_WITH_PAPERS + name in figures


def test_the_scores_that_are_left_are_those_that_were_judged(data, config, tmp_path):
    outcome = evaluate(data, config, [1], scores_to=tmp_path / "scores")
    table = pq.read_table(tmp_path / "scores" / "host-a.parquet")
    assert table.column_names == [
        *("score", "threshold", "anomalous"),
        *(f"error:{name}" for name in NAMES),
    ]
    score, threshold, anomalous = (
        table[name].to_numpy() for name in ("score", "threshold", "anomalous")
    )
    assert len(score) == 200
    assert np.flatnonzero(np.isnan(score)).tolist() == list(range(LENGTH - 1))
    errors = np.column_stack([table[f"error:{name}"].to_numpy() for name in NAMES])
    np.testing.assert_allclose(score, errors.mean(axis=1))
    np.testing.assert_array_equal(anomalous, alarms(score, threshold))
    labels = np.zeros(200, bool)
    labels[120:140] = True
    figures = outcome.found["host-a"][1]["lstm_autoencoder"]
    assert figures["vus_pr"] == vus(score, labels).pr
    assert figures["share_blind"] == (LENGTH - 1) / 200


def test_a_score_does_not_see_the_future(data, config, tmp_path):
    evaluate(data, config, [1], entities=["host-a"], scores_to=tmp_path / "before")
    test = pq.read_table(data / "host-a" / "test.parquet")
    spoilt = {name: test[name].to_numpy().copy() for name in NAMES}
    for column in spoilt.values():
        column[100:] = 7.0
    write(data / "host-a" / "test.parquet", spoilt)
    evaluate(data, config, [1], entities=["host-a"], scores_to=tmp_path / "after")
    before, after = (
        pq.read_table(tmp_path / when / "host-a.parquet").slice(0, 100)
        for when in ("before", "after")
    )
    for name in before.column_names:
        np.testing.assert_array_equal(before[name].to_numpy(), after[name].to_numpy())


def test_several_seeds_stand_side_by_side_and_are_averaged(data, config, tmp_path):
    seen = []
    outcome = evaluate(
        data,
        config,
        [3, 4],
        entities=["host-a"],
        scores_to=tmp_path / "scores",
        done=lambda *step: seen.append(step),
    )
    by_seed = outcome.found["host-a"]
    random = [by_seed[seed]["random"]["vus_pr"] for seed in (3, 4)]
    assert random[0] != random[1]
    assert outcome.entity_figures("random")["host-a"]["vus_pr"] == pytest.approx(np.mean(random))
    left = {
        path.relative_to(tmp_path / "scores").as_posix()
        for path in tmp_path.rglob("host-*.parquet")
    }
    assert left == {"seed-3/host-a.parquet", "seed-4/host-a.parquet"}
    assert seen == [("host-a", 1, 2), ("host-a", 2, 2)]


def test_the_step_of_the_data_goes_before_that_of_the_configuration(tmp_path, config):
    write_entity(tmp_path / "hourly" / "host", 0, times=True)
    write_entity(tmp_path / "untimed" / "host", 0)
    hourly, untimed = (
        evaluate(tmp_path / name, config, [1]).found["host"][1]["lstm_autoencoder"]
        for name in ("hourly", "untimed")
    )
    assert hourly["delay_median_seconds"] == 120 * untimed["delay_median_seconds"] > 0


def test_nothing_is_left_in_the_artifacts_of_the_configuration(data, config):
    evaluate(data, config, [1], entities=["host-a"])
    assert not config.artifacts_dir.exists()


def test_a_naive_score_is_held_to_a_threshold_of_its_own(data, config):
    live = config.real_time_anomaly_detection.model_copy(update={"anomaly_threshold_mse": 1e-9})
    fixed = config.model_copy(update={"real_time_anomaly_detection": live})
    first, second = (
        evaluate(data, each, [1], entities=["host-a"]).found["host-a"][1]
        for each in (config, fixed)
    )
    np.testing.assert_equal(dict(first["|z|"]), dict(second["|z|"]))
    assert first["lstm_autoencoder"] != second["lstm_autoencoder"]


def test_an_entity_that_is_not_there_is_named(data, config):
    with pytest.raises(DataError, match="has no host-c; there are host-a, host-b"):
        evaluate(data, config, [1], entities=["host-c"])


def test_a_summary_leaves_out_what_is_not_defined():
    rows = [{"a": 1.0, "b": math.nan}, {"a": 4.0, "b": math.nan}, {"a": math.nan}, {"a": 10.0}]
    assert mean_figures(rows)["a"] == 5
    assert median_figures(rows)["a"] == 4
    assert math.isnan(mean_figures(rows)["b"])


@pytest.mark.parametrize("labelled", [0, 5])
def test_figures_without_labels_or_scores_are_made_up_nowhere(labelled):
    unknown = Judged(np.full(5, np.nan), np.ones(5), np.full((5, 2), np.nan), 60.0)
    figures = all_figures(unknown, np.arange(5) < labelled, None, 0)
    assert figures["share_blind"] == 1
    assert math.isnan(figures["false_episodes_per_week"])
    recall = [figures[name] for name in ("event_recall", "affiliation_recall", "range_recall")]
    np.testing.assert_array_equal(recall, [0.0] * 3 if labelled else [np.nan] * 3)
