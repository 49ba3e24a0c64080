"""Trimming drops the worst of the training part, never much and nothing that comes back."""

from dataclasses import replace

import numpy as np
import pytest

from promad.cli.commands import run
from promad.cli.commands.filter import format_filtering
from promad.data.artifacts import end_times_path, read_array
from promad.scoring.attribution import shares
from promad.stages.filter import filter_windows
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from promad.training.trimming import OTHER_DAY_SECONDS, TrimLimits, find_outlier_limit, trim
from tests.support.simulated import (
    NOW,
    STEP,
    config_for,
    frame_of,
    host_values,
    read_processed,
    silent,
    write_raw,
)

DAY = 86400.0
FEATURES = 3
QUIET = 1.0


def quiet(days=4.0):
    """Scores, errors and times of windows a minute apart, of which none stands out."""
    times = 60.0 * np.arange(int(days * 1440))
    errors = QUIET + 0.1 * np.random.default_rng(0).random((len(times), FEATURES))
    return errors.mean(axis=1), errors, times


def with_bursts(*bursts, days=4.0):
    """Of these (day, feature, error): ten windows in which one feature alone is off."""
    scores, errors, times = quiet(days)
    for day, feature, error in bursts:
        rows = slice(int(day * 1440), int(day * 1440) + 10)
        errors[rows, feature] = error
        scores[rows] = errors[rows].mean(axis=1)
    return scores, errors, times


NONE = np.empty(0, np.int64)


def trimmed(material, limit=10.0, share=0.05, before=NONE):
    scores, errors, times = material
    return trim(scores, shares(errors), times, TrimLimits(limit, share, near=1200.0), before)


def test_where_nothing_stands_out_nothing_is_dropped():
    found = trimmed(quiet())
    assert (found.dropped, found.recurring) == ((), ())
    assert found.rows.tolist() == []


def test_an_incident_is_dropped_whole():
    found = trimmed(with_bursts((1.5, 0, 100.0)))
    assert [rows.tolist() for rows in found.dropped] == [list(range(2160, 2170))]
    assert found.recurring == ()


def test_what_comes_back_on_another_day_with_the_same_causes_stays():
    found = trimmed(with_bursts((0.5, 0, 100.0), (1.5, 0, 100.0), (2.2, 1, 50.0)))
    assert [rows[0] for rows in found.recurring] == [720, 2160]
    assert [rows[0] for rows in found.dropped] == [int(2.2 * 1440)]


def test_what_comes_back_on_another_day_with_other_causes_is_dropped():
    found = trimmed(with_bursts((0.5, 0, 100.0), (1.5, 1, 100.0)))
    assert [rows[0] for rows in found.dropped] == [720, 2160]


def test_two_bursts_of_one_night_are_no_recurrence_whatever_the_calendar_says():
    just_less = (OTHER_DAY_SECONDS - 60.0) / DAY
    found = trimmed(with_bursts((0.95, 0, 100.0), (0.95 + just_less, 0, 100.0)))
    assert len(found.dropped) == 2
    found = trimmed(with_bursts((0.95, 0, 100.0), (0.95 + just_less + 0.01, 0, 100.0)))
    assert len(found.recurring) == 2


def test_what_was_dropped_stays_dropped_next_to_what_recurs():
    incident = (1.5 + 32 / 1440, 0, 100.0)
    before = trimmed(with_bursts(incident)).rows
    daily = [(day + part / 1440, 1, 400.0) for day in (0.5, 1.5, 2.5) for part in (0, 10, 20)]
    again = with_bursts(*daily, incident)
    assert not np.isin(before, trimmed(again).rows).any()  # in one stretch with the daily job
    found = trimmed(again, before=before)
    assert found.rows.tolist() == before.tolist()
    assert [rows[0] for rows in found.recurring] == [720, 2160, 3600]


def test_what_was_dropped_shows_that_its_repetitions_recur():
    twice = with_bursts((0.5, 0, 100.0), (1.5, 0, 100.0))
    before = np.arange(720, 730)
    found = trimmed(twice, before=before)
    assert found.rows.tolist() == before.tolist()
    assert [rows[0] for rows in found.recurring] == [2160]


def test_all_rounds_together_keep_to_the_share():
    bursts = with_bursts((1.0, 0, 100.0), (2.0, 1, 300.0))
    before = np.arange(1440, 1450)
    assert len(trimmed(bursts, share=15 / len(bursts[0]), before=before).rows) == 15
    assert trimmed(bursts, share=5 / len(bursts[0]), before=before).rows.tolist() == before.tolist()


def test_bursts_that_are_near_each_other_are_one_stretch():
    found = trimmed(with_bursts((1.0, 0, 100.0), (1.0 + 20 / 1440, 0, 100.0)))
    assert [len(rows) for rows in found.dropped] == [20]


def test_no_more_than_the_share_goes_and_the_worst_goes_first():
    scores, errors, times = with_bursts((1.0, 0, 100.0), (2.0, 1, 300.0))
    found = trimmed((scores, errors, times), share=15 / len(scores))
    assert len(found.rows) == 15
    kept = np.setdiff1d(np.arange(len(scores)), found.rows)
    assert scores[kept].max() <= scores[found.rows].min()
    assert set(range(2880, 2890)) < set(found.rows.tolist())


@pytest.mark.parametrize("seed", range(10))
def test_whatever_the_scores_the_share_holds_and_only_what_stands_out_goes(seed):
    chance = np.random.default_rng(seed)
    samples, share = int(chance.integers(1, 3000)), float(chance.uniform(0.001, 0.2))
    errors = chance.lognormal(sigma=2.0, size=(samples, FEATURES))
    scores, limit = errors.mean(axis=1), float(chance.uniform(0.5, 50.0))
    found = trimmed((scores, errors, 60.0 * np.arange(samples)), limit, share)
    assert len(found.rows) <= share * samples
    assert (scores[found.rows] > min(limit, find_outlier_limit(scores))).all()
    assert len(np.unique(found.rows)) == len(found.rows)
    stays = np.concatenate([np.empty(0, np.int64), *found.recurring])
    assert not np.isin(found.rows, stays).any()


def test_of_nothing_nothing_is_dropped():
    nothing = np.empty(0)
    assert trimmed((nothing, np.empty((0, 2)), nothing)).rows.tolist() == []


def test_constant_scores_have_nothing_that_stands_out():
    found = trimmed((np.ones(500), np.ones((500, 2)), 60.0 * np.arange(500)), limit=2.0)
    assert found.dropped == ()


@pytest.fixture
def incident(tmp_path, stub_model):
    """A history with an incident in its training part and one in its validation part, trained."""
    values = host_values(1000)
    values[300:306, 0] += 30.0 * values[:, 0].std()
    values[950:956, 1] += 30.0 * values[:, 1].std()
    config = config_for(tmp_path)
    write_raw(config, [frame_of(values)])
    preprocess(config)
    train(config, silent, now=lambda: NOW)
    return config


def test_filter_trims_the_training_part_alone(incident):
    report = filter_windows(incident, trimming=True)
    _, _, processed = read_processed(incident)
    ends = read_array(end_times_path(report.anomalous_path), "filter")
    seconds = ends.astype("datetime64[ms]").astype(np.float64) / 1000
    assert (seconds <= processed.training_ends_at).all()
    assert report.anomalous == len(ends) == sum(each.windows for each in report.trimmed.dropped)
    assert 0 < report.anomalous <= 0.05 * 800
    assert report.trimmed.dropped[0].top_features[0][0] == incident.features[0]
    assert report.trimmed.dropped[0].ratio > 0
    start = frame_of(host_values(1)).start
    assert start + 300 * STEP <= report.trimmed.dropped[0].first <= start + 310 * STEP


def test_what_was_dropped_is_printed_with_its_features(incident):
    report = filter_windows(incident, trimming=True)
    *dropped, last = format_filtering(report)
    assert len(dropped) == len(report.trimmed.dropped) + len(report.trimmed.recurring)
    assert dropped[0].startswith("  dropped: ")
    assert f"× threshold, {incident.features[0]} " in dropped[0]
    assert last.startswith(f"filter: {report.anomalous} of ")


def test_the_rounds_end_where_nothing_more_is_dropped(incident, monkeypatch, capsys):
    trained = []
    monkeypatch.setattr(run, "run_train", lambda config, force, *_: trained.append(force))
    tuning = incident.data_filtering_settings
    run.trim_and_train(incident, force=True)
    assert trained == [True]  # the model is the same, and so it finds nothing more
    none = tuning.model_copy(update={"trim_share": 0.0001})
    run.trim_and_train(incident.model_copy(update={"data_filtering_settings": none}))
    assert trained == [True]
    assert "filter: 0 of " in capsys.readouterr().out


def test_each_round_keeps_what_the_one_before_dropped(incident, monkeypatch):
    rounds, trained = [], []

    def trimming(_, before):
        rounds.append(before)
        return (*before, float(len(rounds)))

    monkeypatch.setattr(run, "run_trimming", trimming)
    monkeypatch.setattr(run, "run_train", lambda config, force, *_: trained.append(force))
    run.trim_and_train(incident)
    assert rounds == [(), (1.0,)]
    assert len(trained) == incident.data_filtering_settings.trim_rounds


def test_a_later_round_drops_what_the_first_has_dropped(incident):
    first = filter_windows(incident, trimming=True)
    names = incident.data_filtering_settings.model_copy(update={"trim_share": 0.0001})
    config = incident.model_copy(update={"data_filtering_settings": names})
    again = filter_windows(config, trimming=True, dropped_before=first.dropped)
    assert again.dropped == first.dropped
    assert again.anomalous == first.anomalous == len(first.dropped)


def test_training_goes_on_with_what_trimming_left(incident):
    first = filter_windows(incident, trimming=True)
    settings = incident.training_settings.model_copy(update={"train_on_filtered_sequences": True})
    again = incident.model_copy(update={"training_settings": settings})
    report = train(again, silent, now=lambda: NOW + 1)
    assert report.training_windows + report.validation_windows < first.normal
    assert report.bundle.manifest.trained_on == "normal windows of filter"
    assert filter_windows(again, trimming=True).anomalous <= 0.05 * 800


def test_a_share_too_small_for_one_window_drops_none(incident):
    names = incident.data_filtering_settings.model_copy(update={"trim_share": 0.0001})
    config = incident.model_copy(update={"data_filtering_settings": names})
    assert filter_windows(config, trimming=True).anomalous == 0


def test_a_linear_model_is_not_trimmed(tmp_path):
    values = host_values(1000)
    values[300:306, 0] += 30.0 * values[:, 0].std()
    config = config_for(tmp_path, training_settings={"model": "linear"})
    write_raw(config, [frame_of(values)])
    preprocess(config)
    train(config, silent, now=lambda: NOW)
    report = filter_windows(config, trimming=True)
    assert (report.anomalous, report.trimmed.dropped) == (0, ())
    assert replace(report, trimmed=None).normal > 900
    assert next(format_filtering(report)) == (
        "  model linear is not trimmed, because trimming does not improve it — "
        "to leave an incident out of training, use data_settings.exclude"
    )
