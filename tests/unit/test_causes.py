"""What an event is said to be caused by: held errors, and the sample that deviated most."""

import json
from dataclasses import replace

import numpy as np
import pytest

from promad.data.frame import MetricFrame
from promad.data.possible_range import find_possible, read_possible
from promad.data.preparation import Preparation
from promad.detection.live import LiveDetector
from promad.detection.recent_history import RecentHistory
from promad.detection.state import begin_state
from promad.detection.state_file import StateFile
from promad.detection.step import run
from promad.events.hysteresis import Hysteresis
from promad.events.incidents import Member, member_from_json, member_to_json
from promad.events.largest_deviations import DeviatingSample, Followed, LargestDeviations
from promad.events.verdict import verdict_from_json, verdict_to_json
from promad.scoring.calibration import CalibrationTable, pool_calibration
from promad.scoring.held_errors import HeldErrors
from promad.scoring.scoring import Scoring
from tests.support.detectors import SAMPLES, detector_of
from tests.support.simulated import NAMES, frame_of, host_values
from tests.support.statuses import ANOMALOUS, CPU, JUDGED

ONE = np.ones(1, np.bool_)
NONE = np.zeros(1, np.bool_)


# Expected values stay possible


def test_an_expected_value_is_no_further_from_the_training_range_than_that_is_wide():
    training = np.array([[2.0, -1.0, 5.0], [10.0, 1.0, 5.0]])
    assert find_possible(training, ()).tolist() == [[0.0, -3.0, 5.0], [18.0, 3.0, 5.0]]
    ranges = ((1.0, 12.0), (None, 2.0), (None, None))
    assert find_possible(training, ranges).tolist() == [[1.0, -3.0, 5.0], [12.0, 2.0, 5.0]]


def with_range(detector, low, high):
    shape = (len(detector.preparation.features),)
    possible = find_possible(np.array([np.full(shape, low), np.full(shape, high)]), ())
    return replace(detector, preparation=replace(detector.preparation, possible=possible))


def test_what_a_model_expects_is_shown_within_what_is_possible():
    detector = with_range(detector_of(), 0.0, 0.1)
    calibration = detector.calibrate([()])
    shown = calibration.to_natural(np.array([[[-50.0, 0.0, 50.0]]]))
    assert shown[0, 0, 0] == 0.0
    assert shown[0, 0, 2] == pytest.approx(0.2)
    unlimited = detector_of().calibrate([()])
    assert unlimited.to_natural(np.array([[[-50.0, 0.0, 50.0]]]))[0, 0, 0] < 0.0


def test_what_is_possible_is_kept_and_may_be_missing_from_an_older_bundle():
    preparation = with_range(detector_of(), -1.0, 2.0).preparation
    content = json.loads(json.dumps(preparation.to_json()))
    np.testing.assert_array_equal(Preparation.from_json(content).possible, preparation.possible)
    del content["possible"]
    assert Preparation.from_json(content).possible is None
    assert np.isinf(Preparation.from_json(content).limits).all()
    with pytest.raises(ValueError, match="not those of the features"):
        read_possible([[1.0], [0.0]], 1)


def test_a_calibration_of_groups_may_lack_what_is_possible():
    detector = with_range(detector_of(), -1.0, 2.0)
    pooled = pool_calibration(detector.preparation, detector.scoring)
    groups = ((("instance", "a"),),)
    arrays = CalibrationTable(groups, pooled, 1.0).to_arrays()
    assert arrays["possible"].tolist() == [[[-4.0] * len(NAMES), [5.0] * len(NAMES)]]
    del arrays["possible"]
    read = CalibrationTable.from_parts([{"instance": "a"}], arrays)
    assert np.isinf(read.rows.possible).all()
    assert "possible" not in read.to_arrays()


# Held errors


def hold(held, *errors, score=5.0):
    for error in errors:
        found = held.follow(np.array([[error, 0.0]]), np.array([score]), calm=1.0)
    return found[0].tolist()


def test_the_largest_error_is_held_and_fades_slowly_while_the_score_is_high():
    held = HeldErrors.begin(1, 2)
    assert hold(held, 8.0) == [8.0, 0.0]
    assert hold(held, *[0.5] * 69)[0] == pytest.approx(4.0, rel=1e-2)
    assert hold(held, *[0.5] * 14, score=0.1)[0] == pytest.approx(2.0, rel=5e-2)
    assert hold(held, 9.0, score=0.1)[0] == 9.0


def test_a_sample_that_does_not_count_and_an_unknown_error_change_nothing_that_is_held():
    held = HeldErrors.begin(1, 2)
    hold(held, 8.0)
    assert hold(held, 20.0, score=np.nan)[0] == 20.0
    assert held.largest[0, 0] == 8.0
    assert np.isnan(hold(held, np.nan)[0])
    assert held.largest[0, 0] == pytest.approx(8.0 * 0.99)


def test_calm_scores_are_known_from_training_or_else_from_the_threshold():
    detector = detector_of(threshold=2.0)
    assert detector.calm == pytest.approx(0.2)
    measured = replace(detector.scoring, calm=0.7)
    assert replace(detector, scoring=measured).calm == 0.7
    assert Scoring.from_json(measured.to_json()).calm == 0.7
    assert Scoring.from_json(detector.scoring.to_json()).calm is None


# The sample that deviated most


def follow(deviations, *values, expected=1.0, kept=ONE, counted=ONE, near=ONE):
    for at, observed in values:
        sample = DeviatingSample(np.array([[observed]]), np.array([[expected]]), np.array([[5.0]]))
        deviations.follow(at, sample, Followed(counted, near, kept))
    found = deviations.view(np.ones((1, 1), np.bool_))
    return None if found is None else found[0, 0].tolist()


def test_in_an_event_the_sample_that_deviates_most_stays():
    deviations = LargestDeviations.begin(1, 1)
    assert follow(deviations, (0.0, 2.0), (30.0, 4.0), (60.0, 3.0)) == [30.0, 4.0, 1.0, 5.0]
    assert follow(deviations, *[(60.0 + n, 1.5) for n in range(500)])[0] == 30.0


def test_a_return_to_normal_counts_only_if_it_deviates_half_as_much_again():
    deviations = LargestDeviations.begin(1, 1)
    follow(deviations, (0.0, 3.0))
    assert follow(deviations, (30.0, -1.5))[0] == 0.0
    assert follow(deviations, (60.0, -2.5))[0] == 60.0


def test_without_an_event_older_samples_fade_and_after_one_it_begins_anew():
    deviations = LargestDeviations.begin(1, 1)
    follow(deviations, (0.0, 3.0), kept=NONE)
    assert follow(deviations, (1.0, 2.5), kept=NONE)[0] == 0.0
    assert follow(deviations, (2.0, 2.9), kept=NONE)[0] == 2.0
    deviations.forget(np.zeros(1, np.int64))
    assert follow(deviations, (3.0, 1.1), kept=NONE)[0] == 3.0


def test_a_group_far_from_an_event_is_not_followed_and_begins_anew_when_it_nears_one():
    deviations = LargestDeviations.begin(1, 1)
    follow(deviations, (0.0, 9.0), kept=NONE)
    assert follow(deviations, (1.0, 9.0), kept=NONE, near=NONE) is None
    assert follow(deviations, (2.0, 1.5), kept=NONE)[0] == 2.0


def test_samples_that_do_not_count_and_features_that_add_nothing_are_not_kept():
    deviations = LargestDeviations.begin(1, 1)
    assert follow(deviations, (0.0, 3.0), counted=NONE) is None
    nothing = DeviatingSample(np.array([[9.0]]), np.array([[1.0]]), np.zeros((1, 1)))
    deviations.follow(1.0, nothing, Followed(ONE, ONE, ONE))
    assert np.isnan(deviations.view_group(0)).all()


def test_what_deviated_most_survives_json_and_may_be_missing_from_it():
    for verdict in (JUDGED, replace(JUDGED, features=(replace(CPU, largest=None),))):
        assert verdict_from_json(json.loads(json.dumps(verdict_to_json(verdict)))) == verdict
    content = json.loads(json.dumps(verdict_to_json(JUDGED)))
    for view in content["features"]:
        del view["largest"]
    assert verdict_from_json(content).features[0] == replace(CPU, largest=None)
    member = Member.begin(ANOMALOUS.event)
    written = json.loads(json.dumps(member_to_json(member)))
    assert member_from_json(written) == member
    written["features"] = [view[:7] for view in written["features"]]
    assert member_from_json(written).features[0].largest is None


# Events


def shifted(rows, column=0, by=3.0):
    """The host's values, one of which is far off in some rows."""
    values = host_values(SAMPLES)
    values[rows, column] += by * values[:, column].std()
    return values


def judge(values, threshold=0.9):
    """Each sample's judgements, and the state after the last."""
    detector = detector_of(share=0.6, threshold=threshold)
    frame: MetricFrame = frame_of(values)
    limits = detector.threshold.begin()
    state = begin_state(detector, limits, "d", frame.groups, Hysteresis.begin(1, 2, 5))
    live = LiveDetector(detector, detector.calibrate(frame.groups), state)
    return list(run(detector, live.calibration, state, frame)), live


def test_an_event_is_explained_where_its_cause_acted_and_not_by_its_recovery():
    fault = slice(SAMPLES - 20, SAMPLES - 14)
    judged, _ = judge(shifted(fault, by=6.0), threshold=2.0)
    verdicts = [each.verdict(0) for each in judged if each.state[0] == 2]
    assert verdicts
    times = frame_of(host_values(SAMPLES)).times[fault]
    for verdict in verdicts:
        (view, *_) = verdict.ranked_features
        assert view.name == NAMES[0]
        assert view.direction == "above"
        assert times[0] <= view.largest.at <= times[-1]


def test_a_past_sample_in_memory_is_explained_alike():
    fault = slice(SAMPLES - 20, SAMPLES - 14)
    judged, live = judge(shifted(fault, by=6.0), threshold=2.0)
    history = RecentHistory(live.detector.scored_features, SAMPLES)
    for each in judged:
        history.add(each.verdict(0))
    last = max(row for row, each in enumerate(judged) if each.state[0] == 2)
    now = judged[last].verdict(0).ranked_features[0]
    then = history.between(end=judged[last].at).verdict(-1).ranked_features[0]
    assert (then.name, then.largest.at, then.direction) == (now.name, now.largest.at, now.direction)
    assert then.largest.observed == pytest.approx(now.largest.observed, rel=1e-6)


def test_saved_state_of_an_earlier_version_is_resumed(tmp_path):
    _, live = judge(shifted(slice(SAMPLES - 5, SAMPLES), by=6.0), threshold=2.0)
    content = json.loads(json.dumps(live.state.to_json(0)))
    del content["held"], content["deviations"]
    _, other = judge(host_values(SAMPLES), threshold=2.0)
    other.state.resume(0, content)
    assert other.state.events.hysteresis.open[0]
    assert not other.state.held.largest.any()
    StateFile(tmp_path, "b").save(live.state, {}, 0.0)
    saved = StateFile(tmp_path, "b").read()
    arrays = {
        path: array
        for path, array in saved.arrays.items()
        if not path.startswith(("held.", "events.deviations."))
    }
    assert len(arrays) < len(saved.arrays)
    _, fresh = judge(host_values(SAMPLES), threshold=2.0)
    replace(saved, arrays=arrays).restore(fresh.state)
    assert fresh.state.events.start[0] == live.state.events.start[0]
