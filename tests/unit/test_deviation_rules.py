"""Which deviations count: direction, least deviation, weight, and values outside of their range."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promad.bundle import BundleStore, check_fits, load_detector
from promad.config import read_config
from promad.config.deviation_rule import EVERYTHING_COUNTS, DeviationRule
from promad.data.artifacts import write_groups
from promad.data.deviations import find_least, find_weights, read_rules
from promad.data.frame import MetricFrame
from promad.data.preparation import Preparation
from promad.detection.live import LiveDetector
from promad.detection.state import begin_state
from promad.detection.step import run
from promad.errors import BundleError
from promad.events.hysteresis import Hysteresis
from promad.models import Outcome
from promad.scoring.detector import apply_model, count_errors, select_errors
from promad.scoring.scores import raise_outside
from promad.scoring.scoring import Scoring
from promad.scoring.streaming import score_frame
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from promad.training.fitting import FittingOptions, fit_detector
from promad.training.material import split_material
from promad.training.processed_file import locate_processed, read_fleet, read_processed
from promad.training.processing import ProcessingOptions
from promad.training.threshold_choice import make_threshold_settings
from tests.support.detectors import SAMPLES, detector_of, host_samples, judge_rows
from tests.support.simulated import (
    LENGTH,
    NAMES,
    NOW,
    START,
    STEP,
    config_for,
    frame_of,
    host_values,
    silent,
    write_raw,
)

NAN = np.nan
ALL = EVERYTHING_COUNTS
LIMITLESS = ((None, None),)


# The rule


@pytest.mark.parametrize(
    ("rule", "observed", "expected", "counts"),
    [
        (DeviationRule("above"), 3.0, 1.0, True),
        (DeviationRule("above"), -3.0, 1.0, False),
        (DeviationRule("below"), 3.0, 1.0, False),
        (DeviationRule("below"), -3.0, 1.0, True),
        (DeviationRule(min_deviation=(2.0, 2.0)), 3.0, 1.0, True),
        (DeviationRule(min_deviation=(2.0, 2.1)), 3.0, 1.0, False),
        (DeviationRule(min_deviation=(2.0, 2.1)), -1.0, 1.0, True),
        (DeviationRule(min_relative_deviation=(0.5, 0.5)), 1.4, 1.0, False),
        (DeviationRule(min_relative_deviation=(0.5, 0.5)), -1.6, -1.0, True),
        (DeviationRule(min_relative_deviation=(0.5, 0.1)), 1.4, 1.0, True),
        (DeviationRule("both", (1.0, 1.0), (0.1, 0.1)), 1.4, 1.0, False),
        (DeviationRule("both", (0.1, 0.1), (0.9, 0.9)), 1.4, 1.0, False),
        (DeviationRule("both", (0.1, 0.1), (0.1, 0.1)), 1.4, 1.0, True),
    ],
)
def test_a_deviation_counts_in_its_direction_and_if_it_reaches_both_minima(
    rule, observed, expected, counts
):
    least = find_least((rule, DeviationRule("above")))
    ignored = least.find_ignored(np.array([observed, NAN]), np.array([expected, 0.0]))
    assert bool(ignored[0]) is not counts
    assert not ignored[1]


def test_rules_that_let_everything_count_cost_nothing():
    assert find_least((ALL, ALL)) is None
    assert find_weights((ALL, replace_rule(weight=1.0))) is None
    assert find_least((DeviationRule(outside="anomalous"), ALL)) is None
    assert read_config("queries: {a: up}").rules == ()
    assert detector_of().preparation.least is None


def replace_rule(**changes):
    return ALL._replace(**changes)


def test_weights_are_one_on_average():
    weights = find_weights((replace_rule(weight=3.0), ALL))
    assert weights.tolist() == [1.5, 0.5]


def test_the_words_name_what_is_not_the_default():
    assert str(ALL) == ""
    rule = DeviationRule("below", (2.0, 3.0), (0.1, 0.25), "anomalous", 0.5)
    assert str(rule) == (
        "only below the expected value; by at least 2; by at least 10% of the expected value; "
        "anomalous outside of valid_range; weight 0.5"
    )


def test_the_configuration_has_one_rule_for_each_scored_feature():
    config = read_config(
        "queries:\n"
        "  job: {expr: up, condition: true}\n"
        "  a: {expr: up, direction: above, min_deviation: 2, min_relative_deviation: [0.1, 0.2]}\n"
        "  b: {expr: up, valid_range: [0, 1], outside: anomalous, weight: 2}\n"
    )
    assert config.rules == (
        DeviationRule("above", (2.0, 2.0), (0.1, 0.2)),
        DeviationRule(outside="anomalous", weight=2.0),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"direction": "up"},
        {"outside": "gone"},
        {"min_deviation": [-1, 0]},
        {"min_deviation": [1]},
        {"min_relative_deviation": [0, float("inf")]},
        {"weight": 0},
        {"weight": None},
    ],
)
def test_damaged_rules_of_a_bundle_are_refused(changes):
    content = {**ALL._asdict(), **changes}
    with pytest.raises((KeyError, TypeError, ValueError)):
        read_rules([content], 1)
    with pytest.raises(ValueError, match="not those of the scored features"):
        read_rules([ALL._asdict()] * 2, 1)


# Scoring


def ruled(detector, *rules, ranges=()):
    rules = (*rules, *[ALL] * (detector.preparation.scored - len(rules)))
    preparation = replace(detector.preparation, rules=rules, valid_ranges=tuple(ranges))
    read = Preparation.from_json(json.loads(json.dumps(preparation.to_json())))
    assert read.rules == rules
    scoring = replace(detector.scoring, weights=read.weights)
    assert json.dumps(Scoring.from_json(scoring.to_json()).to_json()) == json.dumps(
        scoring.to_json()
    )
    return replace(detector, preparation=read, scoring=scoring)


def test_errors_in_the_other_direction_and_within_the_minimum_are_zero_before_smoothing():
    detector, frame = detector_of(), frame_of(host_values(SAMPLES))
    plain = score_frame(detector, frame)
    deviation = plain.observed - plain.expected
    above = score_frame(ruled(detector, DeviationRule("above")), frame)
    least = float(np.nanquantile(np.abs(deviation[..., 1]), 0.7))
    large = score_frame(ruled(detector, ALL, replace_rule(min_deviation=(least, least))), frame)
    for found, column, ignored in (
        (above, 0, deviation[..., 0] <= 0),
        (large, 1, np.abs(deviation[..., 1]) < least),
    ):
        assert 0 < ignored.sum() < ignored.size
        expected = np.where(ignored, 0.0, plain.sample_errors[..., column])
        np.testing.assert_allclose(found.sample_errors[..., column], expected)
        np.testing.assert_array_equal(found.sample_errors[..., 2], plain.sample_errors[..., 2])
        assert np.nanmean(found.score) < np.nanmean(plain.score)


def test_a_feature_that_only_deviates_little_begins_no_event():
    values = host_values(SAMPLES)
    values[-12:, 0] += 6 * values[:, 0].std()
    rise = 6 * values[: SAMPLES - 12, 0].std()
    detector = detector_of(threshold=2.0, share=0.6)
    assert any(verdict.score > 2.0 for verdict in judge_rows(detector, frame_of(values)))
    for rule in (DeviationRule("below"), replace_rule(min_deviation=(9 * rise, 9 * rise))):
        found = judge_rows(ruled(detector, rule), frame_of(values))[-12:-4]
        assert max(verdict.score for verdict in found) < 2.0


@pytest.mark.parametrize("how", ["mse", "smoothed", "of the largest", "of two models"])
def test_windows_are_counted_in_training_as_samples_are_at_work(how):
    detector = detector_of(how=how)
    rules = (DeviationRule("above"), DeviationRule("both", (0.5, 0.2), (0.001, 0.002)))
    detector = ruled(detector, *rules)
    frame = frame_of(host_values(SAMPLES))
    at_work = score_frame(detector, frame)
    windows = detector.preparation.windows([detector.preparation.scale(frame)], LENGTH)
    outcome = apply_model(detector.model, windows)
    errors = select_errors(outcome, detector.scoring.method)
    counted = count_errors(errors, outcome, windows, detector.preparation)
    assert 0 < (counted == 0).sum() < counted.size
    smoothed = detector.scoring.smooth(counted, windows.starts + LENGTH - 1)
    ends = at_work.in_window[0] == LENGTH
    np.testing.assert_allclose(
        detector.scoring.score(smoothed), at_work.score[0, ends], rtol=1e-5, atol=1e-9
    )


def live_of(detector, labels):
    limits = detector.threshold.begin(len(labels))
    state = begin_state(detector, limits, "d", labels, Hysteresis.begin(len(labels), 2, 5))
    return LiveDetector(detector, detector.calibrate(labels), state)


@given(st.integers(0, 1000))
def test_a_group_of_a_fleet_is_judged_as_one_alone(seed):
    rules = (
        DeviationRule("above", weight=2.0),
        DeviationRule("both", (0.5, 0.2), (0.01, 0.02)),
        DeviationRule(outside="anomalous"),
    )
    ranges = ((None, None), (None, None), (None, 0.3))
    detector = ruled(detector_of(threshold=0.9, share=0.6), *rules, ranges=ranges)
    values = np.stack([host_samples(SAMPLES, seed + group) for group in range(3)])
    values[1, 40:44, 1] = NAN
    labels = tuple((("instance", str(group)),) for group in range(3))
    fleet = live_of(detector, labels)
    frame = MetricFrame(START, STEP, NAMES, labels, values)
    together = list(run(detector, fleet.calibration, fleet.state, frame))
    for group in range(3):
        own = MetricFrame(START, STEP, NAMES, labels[group : group + 1], values[group : group + 1])
        alone = live_of(detector, labels[group : group + 1])
        for one, all_ in zip(
            run(detector, alone.calibration, alone.state, own), together, strict=True
        ):
            np.testing.assert_allclose(all_.score[group], one.score[0], rtol=1e-9)
            np.testing.assert_allclose(all_.excess[group], one.excess[0], rtol=1e-9)
            assert all_.state[group] == one.state[0]
            assert all_.began[group] == one.began[0]


# Weights


def scoring_with(weights, **changes):
    scoring = replace(detector_of().scoring, **changes)
    return replace(scoring, weights=np.array(weights))


def test_a_score_is_the_weighted_mean_of_the_known_features():
    scoring = scoring_with([2.0, 0.5, 0.5], required_share=0.5)
    errors = np.array([[1.0, 4.0, 4.0], [1.0, NAN, 4.0], [NAN, NAN, 4.0]])
    found = scoring.score(errors)
    np.testing.assert_allclose(found[:2], [6 / 3, (2 + 2) / 2.5])
    assert np.isnan(found[2])
    np.testing.assert_allclose(scoring.by_feature(errors)[0], [2.0, 2.0, 2.0])


def test_equal_weights_change_nothing():
    errors = np.abs(np.random.default_rng(0).standard_normal((20, 3)))
    for top_k in (None, 2):
        plain = replace(detector_of().scoring, top_k=top_k)
        weighed = replace(plain, weights=np.ones(3))
        np.testing.assert_allclose(weighed.score(errors), plain.score(errors))


# Outside of the valid range


def outside_of(detector, frame, word):
    """With the first feature's values above its 90 % quantile outside of its valid range."""
    limit = float(np.quantile(frame.values[0, :, 0], 0.9))
    ranges = ((None, limit), (None, None), (None, None))
    return ruled(detector, replace_rule(outside=word), ranges=ranges), limit


def test_a_value_outside_is_anomalous_as_long_as_it_is_outside():
    detector, frame = detector_of(threshold=50.0, share=0.9), frame_of(host_values(SAMPLES))
    ruled_by, limit = outside_of(detector, frame, "anomalous")
    values = frame.values[0, :, 0]
    verdicts = {verdict.at: verdict for verdict in judge_rows(ruled_by, frame)}
    assert len(verdicts) == SAMPLES - LENGTH + 1
    for at, value in zip(frame.times[LENGTH - 1 :], values[LENGTH - 1 :], strict=True):
        verdict = verdicts[at]
        assert (verdict.score > verdict.threshold) == (value > limit)
        if value > limit:
            (view, *_) = verdict.ranked_features
            assert (view.name, view.observed) == (NAMES[0], value)
            assert view.elevation >= 100
    plain, _ = outside_of(detector, frame, "missing")
    assert not any(verdict.score > 50.0 for verdict in judge_rows(plain, frame))


def test_what_is_outside_raises_no_unknown_score_and_leaves_higher_ones():
    outside = np.array([True, True, True, False])
    score = raise_outside(np.array([0.1, 9.0, NAN, 0.1]), np.full(4, 2.0), outside)
    np.testing.assert_allclose(score, [2.02, 9.0, NAN, 0.1])


def test_the_threshold_does_not_follow_what_is_outside():
    detector, frame = detector_of(threshold=50.0), frame_of(host_values(SAMPLES))
    ruled_by, _ = outside_of(detector, frame, "anomalous")
    live = live_of(ruled_by, frame.groups)
    seen = []
    follow = live.state.limits.follow
    live.state.limits.follow = lambda scores, *rest: (
        seen.append(scores.max()),
        follow(scores, *rest),
    )[1]
    judged = list(run(ruled_by, live.calibration, live.state, frame))
    assert max(each.score[0] for each in judged if each.fresh[0]) > 50
    assert np.nanmax(seen) < 50


# Training


def configure(directory, rule, **sections):
    queries = {name: name for name in NAMES}
    queries[NAMES[0]] = {"expr": NAMES[0], **rule}
    training = {"model": "linear", "gate": False, **sections.pop("training_settings", {})}
    return config_for(directory, queries=queries, training_settings=training, **sections)


def spiky_values(samples=400):
    """A host whose first feature falls now and then."""
    values = host_values(samples)
    values[::23, 0] -= 4 * values[:, 0].std()
    return values


def test_what_does_not_count_is_no_part_of_the_scores_that_the_threshold_is_chosen_by(tmp_path):
    limits = {}
    for word in ("both", "above"):
        config = configure(tmp_path / word, {"direction": word})
        write_raw(config, [frame_of(spiky_values())], server="http://prometheus.example")
        preprocess(config)
        report = train(config, silent, now=lambda: NOW)
        limits[word] = report.threshold.value
        detector = load_detector(report.bundle)
        assert detector.preparation.rules == config.rules
        check_fits(report.bundle, config)
        assert detector.calm is not None
    assert limits["above"] < limits["both"]


def test_rules_may_change_without_preprocessing_but_not_without_training(tmp_path):
    config = configure(tmp_path, {})
    write_raw(config, [frame_of(spiky_values())], server="http://prometheus.example")
    preprocess(config)
    bundle = train(config, silent, now=lambda: NOW).bundle
    changed = configure(tmp_path, {"direction": "below", "min_deviation": [0, 2], "weight": 3})
    with pytest.raises(
        BundleError,
        match=f"{NAMES[0]} was trained with direction both and has now below — train again, or",
    ):
        check_fits(bundle, changed)
    later = train(changed, silent, now=lambda: NOW + 60).bundle
    check_fits(later, changed)
    assert load_detector(later).scoring.weights.tolist() == pytest.approx([1.8, 0.6, 0.6])
    with pytest.raises(BundleError, match=r"with min_deviation \[0, 2\] and has now 0 — train"):
        check_fits(later, configure(tmp_path, {"direction": "below", "weight": 3}))
    with pytest.raises(BundleError, match="with weight 3 and has now 1 — train again"):
        check_fits(later, configure(tmp_path, {"direction": "below", "min_deviation": [0, 2]}))


@pytest.mark.parametrize("scope", ["pooled", "per_group"])
def test_each_group_of_a_fleet_is_calibrated_by_the_deviations_that_count(tmp_path, scope):
    """As one group alone would be, in its own unit."""
    rule = {"direction": "above", "min_deviation": 0.01, "weight": 2}
    config = configure(tmp_path, rule, training_settings={"model_scope": scope})
    config = config.model_copy(update={"group_by": ("instance",)})
    hosts = [(("instance", f"host-{host}"),) for host in range(3)]
    groups = [
        [MetricFrame(START, STEP, NAMES, (host,), (spiky_values() * factor)[np.newaxis])]
        for host, factor in zip(hosts, (1.0, 2.0, 4.0), strict=True)
    ]
    path = config.artifacts_dir / config.data_settings.output_filename
    write_groups(path, STEP, ["instance"], iter(groups), lambda: {"server": "http://x.example"})
    preprocess(config)
    train(config, silent, now=lambda: NOW)
    detector = load_detector(BundleStore.of(config).open_current())
    fleet = read_fleet(locate_processed(config), ProcessingOptions.of(config))
    assert detector.preparation.rules == fleet.preparation.rules == config.rules
    assert fleet.prepare(1).scaler.center.tolist() == fleet.center[1].tolist()
    scores = score_frame(
        detector,
        MetricFrame(
            START, STEP, NAMES, tuple(hosts), np.concatenate([each[0].values for each in groups])
        ),
    )
    deviation = scores.observed[..., 0] - scores.expected[..., 0]
    ignored = ~np.isnan(scores.sample_errors[..., 0]) & (deviation < 0.01)
    assert ignored.sum() > 100
    assert not scores.sample_errors[..., 0][ignored].any()
    own, unit = detector.of_group(hosts[2])
    windows = own.preparation.windows(fleet.read(2), LENGTH)
    outcome: Outcome = apply_model(own.model, windows)
    errors = select_errors(outcome, own.scoring.method)
    counted = count_errors(errors, outcome, windows, own.preparation)
    at = np.round((windows.times - START) / STEP).astype(np.int64)
    found = own.scoring.score(own.scoring.smooth(counted, at)) / unit
    np.testing.assert_allclose(found, scores.score[2, at], rtol=1e-3, atol=1e-6)


def test_a_single_group_and_one_of_its_processed_file_have_the_same_rules(tmp_path):
    config = configure(tmp_path, {"direction": "above"})
    write_raw(config, [frame_of(spiky_values())], server="http://prometheus.example")
    preprocess(config)
    source = read_processed(locate_processed(config), ProcessingOptions.of(config))
    assert source.preparation.rules == config.rules
    windows = source.build_windows(LENGTH)
    material = split_material(windows, source.frames, source.preparation, source.training_ends_at)
    live = config.real_time_anomaly_detection
    options = FittingOptions(config.training_settings, "auto", make_threshold_settings(live, 30.0))
    assert fit_detector(material, options, silent).detector.preparation.rules == config.rules
