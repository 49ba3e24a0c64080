"""`evaluate`: the stages on labelled data, every row beside the naive ones, all of it checkable."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from plotly.offline import get_plotlyjs
from typer.testing import CliRunner

from promad.bundle import load_detector
from promad.cli.app import build_app
from promad.cli.commands import evaluate as command
from promad.cli.commands.evaluate import Options, run_evaluate
from promad.cli.evaluation_tables import TaskProgress, format_evaluation
from promad.errors import DataError
from promad.evaluation.agreement import alarms
from promad.evaluation.figures import (
    FOR_COMPARISON_WITH_PAPERS,
    Judged,
    all_figures,
    mean_figures,
    median_figures,
)
from promad.evaluation.labelled import read_labelled
from promad.evaluation.nab import PROFILES
from promad.evaluation.naive import NAIVE
from promad.evaluation.ranking import vus
from promad.experiments import judging
from promad.experiments.cache import EvaluationCache
from promad.experiments.report import draw_chart, write_report
from promad.experiments.rows import Row, build_chart
from promad.experiments.tasks import Task, linear_config
from promad.models import MODELS
from promad.stages.evaluate import EvaluationOptions, Progress, evaluate
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from tests.support.detectors import score_rows
from tests.support.simulated import (
    LENGTH,
    NAMES,
    NOW,
    config_for,
    frame_of,
    host_values,
    silent,
    write_raw,
)

MODEL = "lstm_autoencoder"
ROWS = (MODEL, "linear", *NAIVE)


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
def config(tmp_path, stub_model, monkeypatch):
    """Every model is the stub."""
    for name in ("linear", "lstm_forecaster"):
        monkeypatch.setitem(MODELS, name, "tests.support.stub_model")
    return config_for(
        tmp_path / "artifacts",
        preprocessing_settings={"scaler_type": "StandardScaler"},
        training_settings={"train_split_ratio": 0.6, "scoring": "mse"},
    )


def modelled(config, model):
    settings = config.training_settings.model_copy(update={"model": model})
    return config.model_copy(update={"training_settings": settings})


def evaluated(data, config, seeds, *, done=lambda progress: None, **options):
    return evaluate(data, [config], EvaluationOptions(seeds, **options), done)


@pytest.fixture
def telemetry(tmp_path):
    """Two channels as telemanom publishes them: the burst is in the first column."""
    for seed, entity in enumerate(("A-1", "A-2")):
        folder = tmp_path / "telemetry" / entity
        write_entity(folder, seed)
        for part in ("train", "test"):
            table = pq.read_table(folder / f"{part}.parquet")
            write(folder / f"{part}.parquet", {name: table[name] for name in CHANNEL})
        (folder / "interpretation.txt").unlink()
        (folder / "labels.csv").write_text("start,end,class\n120,139,point\n")
    return tmp_path / "telemetry"


CHANNEL = (NAMES[1], NAMES[0], NAMES[2])


def test_the_command_shows_the_rows_one_below_the_other_and_writes_every_figure(
    data, config, tmp_path, capsys
):
    written = tmp_path / "figures.json"
    options = Options(
        seeds=2, entities=["host-a"], json_path=written, scores_to=tmp_path / "scores"
    )
    failed = run_evaluate(data, [config], options)
    lines = capsys.readouterr().out.rpartition("  ranking")[2].splitlines()
    assert failed == 0
    assert lines[0].split()[:3] == ["VUS-PR", "VUS-ROC", "AUC-PR"]
    rows = lines[1 : 1 + len(ROWS)]
    assert [row.removeprefix("  ").split("  ")[0] for row in rows] == list(ROWS)
    assert lines[-1].startswith(
        "evaluate: means over 1 of 1 entity and 2 seeds; VUS over 100 samples; "
    )
    figures = json.loads(written.read_text())
    assert figures["seeds"] == [config.training_settings.seed + seed for seed in (0, 1)]
    first = rows[0].split()[1]
    assert float(first) == pytest.approx(figures["rows"][MODEL]["mean"]["vus_pr"], abs=5e-4)
    assert len(list((tmp_path / "scores").glob("seed-*/host-a.parquet"))) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "figures.json", "scores"]


HEADINGS = {
    "ranking": ["VUS-PR", "VUS-ROC", "AUC-PR", "VUS10-PR", "VUS10-ROC", "best F1", "blind"],
    "at the threshold": [
        *("recall", "precision", "false/week", "delay", "delay p90"),
        *("affil. F1", "event F1", "range F1"),
    ],
    "events against labels": [
        *("overhang", "p90", "samples", "p90", "lag p90", "fragments", "coverage"),
    ],
    "root causes (1: by sample, n: by segment)": [
        f"{unit} {name}" for unit in "1n" for name in ("Hit@100", "Hit@150", "NDCG@100", "NDCG@150")
    ],
    "only to compare with papers": ["PA-F1", "(random)", "PA%20-F1", "(random)"],
}


def test_tables_come_in_the_order_of_what_matters(data, config):
    lines = list(format_evaluation(evaluated(data, config, [1])))
    heads = [lines[0], *(after for line, after in pairwise(lines) if line == "")][:-1]
    shown = {
        title: re.split(r"\s{2,}", line.removeprefix(f"  {title}").strip())
        for title, line in zip(HEADINGS, heads, strict=True)
    }
    assert shown == HEADINGS


def test_every_row_has_every_figure_for_every_entity(data, config):
    outcome = evaluated(data, config, [1])
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
    assert (content["vus_window_samples"], content["vus_narrow_window_samples"]) == (100, 10)
    assert {"vus_10_pr", "vus_10_roc", "segment_ndcg_at_150", "delay_p90_seconds"} <= names


def test_recall_is_measured_at_every_budget_beside_the_best_limit(data, config, capsys):
    outcome = evaluated(data, config, [1], budgets=(1.0, 7.0))
    for row in ROWS:
        for entity in ("host-a", "host-b"):
            figures = outcome.entity_figures(row)[entity]
            low, high = (figures[f"best_limit_{budget}_event_recall"] for budget in (1, 7))
            assert 0 <= low <= high <= 1
            assert figures["best_limit_1_false_episodes_per_week"] <= 1
            assert figures["budget_7_false_episodes_per_week"] >= 0
    assert outcome.mean(MODEL)["best_limit_7_event_recall"] == 1
    content = outcome.to_json()
    assert content["budgets"] == [1.0, 7.0]
    low, high = content["rows"][MODEL]["interval_90"]["budget_7_event_recall"]
    assert low <= content["rows"][MODEL]["mean"]["budget_7_event_recall"] <= high
    lines = list(format_evaluation(outcome))
    assert sum(line.startswith("  alert budget") for line in lines) == 2


@pytest.mark.parametrize("text", ["0", "-1", "1,x", "inf", "1;2"])
def test_budgets_are_numbers_above_zero(text):
    with pytest.raises(typer.BadParameter, match=r"invalid --budgets .* such as 1,2,7"):
        command._parse_budgets(text)


def test_models_are_measured_on_injected_shifts(data, config):
    """Each entity has 120 samples that are held out, too few; in more there is a shift in 200."""
    assert evaluated(data, config, [1]).injected(MODEL) == {}
    for entity in ("host-a", "host-b"):
        values = host_values(2000)
        columns = dict(zip(NAMES, values.T, strict=True))
        write(data / entity / "train.parquet", columns)
    outcome = evaluated(data, config, [1])
    figures = outcome.injected(MODEL)
    assert figures["shifts"] == 4
    assert {"overhang_p90_samples", "coverage_mean", "event_recall"} <= set(figures)
    assert outcome.injected("random") == {}
    assert outcome.to_json()["injected"].keys() == {MODEL, "linear"}
    assert any(line.startswith("  injected shifts") for line in format_evaluation(outcome))


def test_what_is_only_for_papers_has_chance_beside_it(data, config):
    outcome = evaluated(data, config, [1], entities=["host-b"])
    for figures in (outcome.found["host-b"][1][row].figures for row in ROWS):
        for name in ("point_adjusted_f1", "pa_20_f1"):
            assert 0 < figures[f"{FOR_COMPARISON_WITH_PAPERS}{name}_of_random"] <= 1
            assert FOR_COMPARISON_WITH_PAPERS + name in figures


def test_the_scores_that_are_left_are_those_that_were_judged(data, config, tmp_path):
    outcome = evaluated(data, config, [1], scores_to=tmp_path / "scores")
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
    figures = outcome.found["host-a"][1][MODEL].figures
    assert figures["vus_pr"] == vus(score, labels).pr
    assert figures["vus_10_roc"] == vus(score, labels, 10).roc
    assert figures["share_blind"] == (LENGTH - 1) / 200


@pytest.mark.parametrize("strategy", ["ffill_then_bfill", "none"])
def test_a_row_has_the_scores_that_the_stages_give(tmp_path, config, strategy):
    """Gaps among them, and each threshold of its own."""
    write_entity(tmp_path / "data" / "host", 0)
    path = tmp_path / "data" / "host" / "train.parquet"
    columns = {name: pq.read_table(path)[name].to_numpy().copy() for name in NAMES}
    columns[NAMES[0]][50:53] = columns[NAMES[1]][90:110] = np.nan
    write(path, columns)
    settings = config.preprocessing_settings.model_copy(update={"nan_fill_strategy": strategy})
    own = config.model_copy(update={"preprocessing_settings": settings})
    evaluated(tmp_path / "data", own, [1], scores_to=tmp_path / "scores")
    table = pq.read_table(tmp_path / "scores" / "host.parquet")

    write_raw(own, [frame_of(np.column_stack([*columns.values()]))])
    preprocess(own)
    detector = load_detector(train(own, silent, now=lambda: NOW).bundle)
    test = read_labelled(tmp_path / "data" / "host").test
    scores = score_rows(detector, frame_of(test))
    np.testing.assert_array_equal(table["score"].to_numpy()[LENGTH - 1 :], scores.score)
    assert table["threshold"][0].as_py() == detector.threshold.value


def test_a_score_does_not_see_the_future(data, config, tmp_path):
    evaluated(data, config, [1], entities=["host-a"], scores_to=tmp_path / "before")
    test = pq.read_table(data / "host-a" / "test.parquet")
    spoilt = {name: test[name].to_numpy().copy() for name in NAMES}
    for column in spoilt.values():
        column[100:] = 7.0
    write(data / "host-a" / "test.parquet", spoilt)
    evaluated(data, config, [1], entities=["host-a"], scores_to=tmp_path / "after")
    before, after = (
        pq.read_table(tmp_path / when / "host-a.parquet").slice(0, 100)
        for when in ("before", "after")
    )
    for name in before.column_names:
        np.testing.assert_array_equal(before[name].to_numpy(), after[name].to_numpy())


def test_several_seeds_stand_side_by_side_and_are_averaged(data, config, tmp_path):
    seen = []
    outcome = evaluated(
        data,
        config,
        [3, 4],
        entities=["host-a"],
        scores_to=tmp_path / "scores",
        done=seen.append,
    )
    by_seed = outcome.found["host-a"]
    random = [by_seed[seed]["random"].figures["vus_pr"] for seed in (3, 4)]
    assert random[0] != random[1]
    assert outcome.entity_figures("random")["host-a"]["vus_pr"] == pytest.approx(np.mean(random))
    left = {
        path.relative_to(tmp_path / "scores").as_posix()
        for path in tmp_path.rglob("host-*.parquet")
    }
    assert left == {"seed-3/host-a.parquet", "seed-4/host-a.parquet"}
    told = [(each.task.row, each.task.seed, each.number, each.total) for each in seen]
    assert told == [
        *(("naive", 3, 1, 5), ("naive", 4, 2, 5), ("linear", 3, 3, 5)),
        *((MODEL, 3, 4, 5), (MODEL, 4, 5, 5)),
    ]
    assert by_seed[3]["linear"] is by_seed[4]["linear"]


def test_the_step_of_the_data_goes_before_that_of_the_configuration(tmp_path, config):
    write_entity(tmp_path / "hourly" / "host", 0, times=True)
    write_entity(tmp_path / "untimed" / "host", 0)
    live = config.real_time_anomaly_detection.model_copy(update={"anomaly_threshold_mse": 5.0})
    fixed = config.model_copy(update={"real_time_anomaly_detection": live})
    hourly, untimed = (
        evaluated(tmp_path / name, fixed, [1]).found["host"][1][MODEL].figures
        for name in ("hourly", "untimed")
    )
    assert hourly["delay_median_seconds"] == 120 * untimed["delay_median_seconds"] > 0


def test_nothing_is_left_in_the_artifacts_of_the_configuration(data, config):
    evaluated(data, config, [1], entities=["host-a"])
    assert not config.artifacts_dir.exists()


def test_a_naive_score_is_held_to_a_threshold_of_its_own(data, config):
    live = config.real_time_anomaly_detection.model_copy(update={"anomaly_threshold_mse": 1e-9})
    fixed = config.model_copy(update={"real_time_anomaly_detection": live})
    first, second = (
        evaluated(data, each, [1], entities=["host-a"]).found["host-a"][1]
        for each in (config, fixed)
    )
    for row in ("|z|", "linear"):
        np.testing.assert_equal(dict(first[row].figures), dict(second[row].figures))
    assert first[MODEL].figures != second[MODEL].figures


def test_an_entity_that_is_not_there_is_named(data, config):
    with pytest.raises(DataError, match=r"no entity host-c \(entities: host-a, host-b\)"):
        evaluated(data, config, [1], entities=["host-c"])


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


def spoil(folder):
    """Leave so little to train on that no window of any model fits."""
    table = pq.read_table(folder / "train.parquet").slice(0, 10)
    pq.write_table(table, folder / "train.parquet")


def test_an_entity_that_cannot_be_trained_on_is_passed_over_and_named(data, config, capsys):
    spoil(data / "host-a")
    failed = run_evaluate(data, [config], Options())
    out = capsys.readouterr().out.splitlines()
    assert failed == 1
    assert out[-1].startswith("evaluate: means over 1 of 2 entities and 1 seed; ")
    assert out[-2].startswith("  host-a: failed: ")
    whole, alone = (evaluated(data, config, [42], entities=names) for names in ((), ("host-b",)))
    assert whole.to_json()["rows"] == alone.to_json()["rows"]
    assert list(whole.to_json()["failed"]) == ["host-a"]


def test_nothing_but_failures_is_no_table(data, config, capsys):
    for entity in ("host-a", "host-b"):
        spoil(data / entity)
    assert run_evaluate(data, [config], Options()) == 2
    assert "ranking" not in capsys.readouterr().out


class CutShortError(Exception):
    """Somebody pressed Ctrl-C."""


def cut_short_after(tasks):
    def done(progress):
        if progress.number == tasks:
            raise CutShortError

    return done


def test_a_run_that_was_cut_short_goes_on_where_it_was(data, config, tmp_path):
    cache, seen = EvaluationCache.beside(tmp_path / "figures.json"), []
    with pytest.raises(CutShortError):
        evaluated(data, config, [1], cache=cache, done=cut_short_after(2))
    outcome = evaluated(data, config, [1], cache=cache, done=seen.append)
    assert [each.reused for each in seen] == [True, True, *[False] * 4]
    assert outcome.to_json() == evaluated(data, config, [1]).to_json()


def changed_settings(data, config):
    return config.model_copy(
        update={
            "training_settings": config.training_settings.model_copy(update={"epochs": 7}),
        }
    )


def changed_file(data, config):
    write(data / "host-a" / "test_label.parquet", {"label": np.zeros(200, np.int8)})
    return config


@pytest.mark.parametrize(
    ("change", "reused"), [(changed_settings, {"linear"}), (changed_file, set())]
)
def test_what_was_found_for_something_else_is_not_used(data, config, tmp_path, change, reused):
    cache, seen = EvaluationCache.beside(tmp_path / "figures.json"), []
    evaluated(data, config, [1], entities=["host-a"], cache=cache)
    other = change(data, config)
    evaluated(data, other, [1], entities=["host-a"], cache=cache, done=seen.append)
    assert {each.task.row for each in seen if each.reused} == reused


def test_scores_that_are_gone_are_made_again(data, config, tmp_path):
    cache, scores = EvaluationCache.beside(tmp_path / "figures.json"), tmp_path / "scores"
    options = {"entities": ["host-a"], "cache": cache, "scores_to": scores}
    evaluated(data, config, [1], **options)
    (scores / "host-a.parquet").unlink()
    evaluated(data, config, [1], **options)
    assert (scores / "host-a.parquet").exists()


def test_fresh_forgets_what_was_found(data, config, tmp_path, capsys):
    written = tmp_path / "figures.json"
    for fresh, told in ((False, 3), (True, 0)):
        evaluated(data, config, [42], entities=["host-a"], cache=EvaluationCache.beside(written))
        capsys.readouterr()
        options = Options(entities=["host-a"], json_path=written, fresh=fresh)
        run_evaluate(data, [config], options)
        assert capsys.readouterr().out.count("(from an earlier run)") == told
        assert not EvaluationCache.beside(written).directory.exists()


def test_a_damaged_note_is_as_good_as_none(data, config, tmp_path):
    cache = EvaluationCache.beside(tmp_path / "figures.json")
    evaluated(data, config, [1], entities=["host-a"], cache=cache)
    for path in cache.directory.iterdir():
        path.write_text(path.read_text()[:-20])
    seen = []
    evaluated(data, config, [1], entities=["host-a"], cache=cache, done=seen.append)
    assert not any(each.reused for each in seen)


def test_several_models_are_rows_of_one_table(data, config, tmp_path):
    models = ("lstm_forecaster", "linear")
    configs = [modelled(config, model) for model in models]
    outcome = evaluate(
        data,
        configs,
        EvaluationOptions([1], entities=["host-a"], scores_to=tmp_path / "scores"),
    )
    assert outcome.row_names == (*models, *NAIVE)
    assert outcome.models == models
    left = {
        path.relative_to(tmp_path / "scores").as_posix() for path in tmp_path.rglob("host-*.p*")
    }
    assert left >= {f"{model}/host-a.parquet" for model in models}


def test_the_linear_row_has_settings_of_its_own(config):
    own = linear_config(config).training_settings
    assert (own.model, own.sequence_length, own.scoring.method) == ("linear", 20, "normalised")
    assert (own.train_split_ratio, own.seed) == (0.6, config.training_settings.seed)


@pytest.mark.parametrize(
    ("columns", "expected"), [("auto", CHANNEL[:1]), ("first", CHANNEL[:1]), ("all", CHANNEL)]
)
def test_of_telemetry_the_first_column_is_scored(telemetry, config, tmp_path, columns, expected):
    evaluated(telemetry, config, [1], columns=columns, scores_to=tmp_path / "scores")
    names = pq.read_schema(tmp_path / "scores" / "A-1.parquet").names
    assert names[3:] == [f"error:{name}" for name in expected]


def test_naive_rows_see_what_models_see(telemetry, config):
    """A command that goes wild is worse than the burst for whoever looks at it."""
    path = telemetry / "A-1" / "test.parquet"
    columns = {name: pq.read_table(path)[name].to_numpy().copy() for name in CHANNEL}
    columns[CHANNEL[1]][10:40:2] = 1e9
    write(path, columns)
    first, every = (
        evaluated(telemetry, config, [1], columns=columns, entities=["A-1"]).found["A-1"][1]
        for columns in ("auto", "all")
    )
    for row in ("|z|", "last value", "last value smoothed"):
        assert first[row].figures["auc_pr"] > every[row].figures["auc_pr"]


def test_commands_are_conditions_of_the_forecaster_alone(telemetry, config, monkeypatch):
    seen = {}

    def fit(material, options, progress):
        own = material.preparation
        seen[options.training.model] = (own.features, own.scored)
        raise DataError("seen")

    monkeypatch.setattr(judging, "fit_detector", fit)
    configs = [config, modelled(config, "lstm_forecaster")]
    evaluate(telemetry, configs, EvaluationOptions([1], entities=["A-1"]))
    alone = (CHANNEL[:1], 1)
    assert seen == {MODEL: alone, "linear": alone, "lstm_forecaster": (CHANNEL, 1)}


def test_windows_are_no_longer_than_a_twelfth_of_the_training_part(telemetry, config, monkeypatch):
    seen = set()

    def fit(material, options, progress):
        assert material.windows.length == options.training.sequence_length
        seen.add(material.windows.length)
        raise DataError("seen")

    monkeypatch.setattr(judging, "fit_detector", fit)
    rows = len(read_labelled(telemetry / "A-1").train)
    evaluate(
        telemetry,
        [modelled(config, "lstm_forecaster")],
        EvaluationOptions([1], entities=["A-1"]),
    )
    assert max(seen) <= rows // 12 < 101


def test_sequences_of_all_channels_are_counted_together(telemetry, config):
    outcome = evaluated(telemetry, config, [1, 2])
    content = outcome.to_json()
    for row in ROWS:
        of_row, entities = content["sequences"][row], content["rows"][row]["entities"]
        for name in ("found", "missed", "false"):
            total = sum(figures[f"sequences_{name}"] for figures in entities.values())
            assert of_row[name] == pytest.approx(total)
        assert of_row["found"] + of_row["missed"] == 2
    assert content["nab"] == {}
    assert any("known sequences" in line for line in format_evaluation(outcome))


def test_data_that_counts_no_sequences_has_none(data, config):
    content = evaluated(data, config, [1], entities=["host-a"]).to_json()
    assert content["sequences"] == content["nab"] == {}


def test_windows_of_all_series_come_to_one_nab_score(data, config):
    for entity in ("host-a", "host-b"):
        (data / entity / "labels.csv").write_text(
            "kind,start_timestamp,end_timestamp,test_start,test_end\n"
            "window,0,0,115,144\npoint,0,0,125,125\n"
        )
    outcome = evaluated(data, config, [1])
    content = outcome.to_json()
    for row in ROWS:
        scores = content["nab"][row]
        for name in PROFILES:
            values = [
                figures[f"nab_{name}"] for figures in content["rows"][row]["entities"].values()
            ]
            assert scores["at_threshold"][name] == pytest.approx(np.mean(values))
            assert max(0, scores["at_threshold"][name]) <= scores["optimised"][name] <= 100
    assert content["nab"][MODEL]["optimised"]["standard"] > 50
    assert content["nab"][MODEL]["by_event"]["standard"] > 50
    lines = list(format_evaluation(outcome))
    assert [line.split("  ")[1] for line in lines if "NAB" in line] == [
        "NAB, by event",
        "NAB, at threshold",
        "NAB, optimised",
    ]


def test_the_report_is_one_page_that_needs_nothing_else(data, config, tmp_path):
    spoil(data / "host-b")
    (data / "host-a").rename(data / "<b>&host")
    write_report(tmp_path / "page.html", evaluated(data, config, [1]))
    page = (tmp_path / "page.html").read_text()
    assert page.count("Plotly.newPlot(") >= 2
    assert page.count(get_plotlyjs()[:500]) == 1
    own = page.replace(get_plotlyjs(), "")
    assert "&lt;b&gt;&amp;host, lstm_autoencoder" in own
    assert "<b>" not in own
    assert not re.search(r"(src|href)=|https?://", own)
    assert "host-b</strong> failed: " in own
    assert [path.name for path in tmp_path.glob("*page*")] == ["page.html"]
    for row in ROWS:
        assert own.count(f"<td>{row}</td>") == 3  # mean, median and the one entity


def test_a_chart_shows_the_worst_of_each_stretch(data, config):
    chart = evaluated(data, config, [1], entities=["host-a"]).found["host-a"][1][MODEL].chart
    assert (len(chart.rows), chart.segments) == (200, [[120, 140]])
    assert chart.scores[0] is None
    figure = go.Figure(draw_chart(chart))
    assert [trace.name for trace in figure.data] == ["score", "threshold"]
    assert len(figure.layout.shapes) == 1


def test_a_long_series_is_drawn_with_its_peaks():
    scores = np.zeros(24_000)
    scores[[7, 12_345]] = 3.0
    scores[23_000:] = np.nan
    labels = np.arange(24_000) >= 23_900
    chart = build_chart(Judged(scores, np.ones(24_000), scores[:, None], 60.0), labels)
    assert len(chart.rows) == 2000
    assert [row for row, score in zip(chart.rows, chart.scores, strict=True) if score] == [
        7,
        12_345,
    ]
    assert chart.scores[-1] is None
    assert chart.segments == [[23_900, 24_000]]


def test_progress_says_how_long_it_will_take():
    ticks = iter([0.0, 90.0, 180.0])
    line = TaskProgress(lambda: next(ticks))
    task = Task(Path("host"), MODEL, 7, None, "auto")
    rows = {MODEL: Row({"vus_pr": 0.5})}

    def told(number, **changes):
        return line.format(Progress(**{**whole, **changes}, number=number, total=4))

    whole = {"task": task, "rows": rows, "failure": None, "reused": False}
    assert told(1, reused=True) == f"1/4 host, {MODEL}, seed 7: VUS-PR 0.500 (from an earlier run)"
    assert told(2) == f"2/4 host, {MODEL}, seed 7: VUS-PR 0.500; about 3m left"
    failed = told(3, rows={}, failure="too little")
    assert failed == f"3/4 host, {MODEL}, seed 7: failed: too little; about 1m30s left"
    assert told(4) == f"4/4 host, {MODEL}, seed 7: VUS-PR 0.500"


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """`promad evaluate DIR ...` up to the stage: what it would be called with, or what is wrong."""
    (tmp_path / "config.yaml").write_text("queries: {any: up}\ntraining_settings: {epochs: 3}\n")

    def ask(*arguments, failed=0):
        calls = []
        monkeypatch.setattr(command, "run_evaluate", lambda *args: calls.append(args) or failed)
        arguments = ["-c", str(tmp_path / "config.yaml"), "evaluate", "data", *arguments]
        result = CliRunner().invoke(build_app(), arguments)
        return calls[0] if calls else None, result

    return ask


def test_options_are_keys_of_the_configuration(asked):
    (_, configs, options), result = asked(
        *("--model", "linear", "--model", "tranad", "--threshold", "pot", "--scoring", "mse"),
        *("--set", "training_settings.batch_size=5", "--columns", "first", "--seeds", "3"),
    )
    assert result.exit_code == 0
    settings = [config.training_settings for config in configs]
    assert [each.model for each in settings] == ["linear", "tranad"]
    assert {each.scoring.method for each in settings} == {"mse"}
    assert {each.batch_size for each in settings} == {5}
    assert {each.epochs for each in settings} == {3}
    assert {config.real_time_anomaly_detection.threshold for config in configs} == {"pot"}
    assert (options.columns, options.seeds, options.fresh) == ("first", 3, False)


def test_a_key_that_is_not_there_is_named(asked):
    called, result = asked("--set", "training_settings.epocs=5")
    assert called is None
    assert str(result.exception) == (
        "--set: training_settings.epocs: unknown key — did you mean epochs?"
    )


def test_the_step_is_a_key_too_and_may_be_given_by_set(asked):
    (_, (config,), options), _ = asked("--step", "1m")
    assert (config.data_settings.step, options.step_is_given) == (60.0, True)
    (_, (config,), options), _ = asked("--set", "data_settings.step=5m")
    assert (config.data_settings.step, options.step_is_given) == (300.0, True)
    assert asked()[0][2].step_is_given is False


def test_without_a_configuration_file_the_defaults_are_used(monkeypatch, tmp_path):
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "run_evaluate", lambda *args: calls.append(args) or 0)
    result = CliRunner().invoke(build_app(), ["evaluate", "data", "--model", "linear"])
    assert result.exit_code == 0, result.exception
    ((_, (config,), _),) = calls
    assert config.training_settings.model == "linear"
    missing = CliRunner().invoke(build_app(), ["-c", "config.yaml", "evaluate", "data"])
    assert "cannot read the file" in str(missing.exception)


def test_data_without_time_stamps_is_refused_without_a_step(tmp_path):
    folder = tmp_path / "data" / "host"
    folder.mkdir(parents=True)
    (folder / "test.parquet").touch()
    with pytest.raises(DataError, match=r"host: has no time stamps .* — set it with --step"):
        command.run_evaluate(tmp_path / "data", [], command.Options(step_is_given=False))


def test_a_failed_entity_is_a_failed_command(asked):
    assert asked(failed=1)[1].exit_code == 1
