"""A value outside of its valid range is missing, the same in every stage."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promad.cli.commands.preprocess import format_preprocessed
from promad.cli.commands.train import format_training
from promad.config import read_config
from promad.data.artifacts import read_frames
from promad.data.preparation import Preparation
from promad.data.valid_range import contains_range, count_outside, drop_outside, read_ranges
from promad.errors import DataError
from promad.scoring.streaming import score_frame
from promad.stages.collect import collect
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from tests.support.detectors import detector_of
from tests.support.prometheus_stub import curves, stub_server
from tests.support.simulated import (
    NAMES,
    NOW,
    config_for,
    frame_of,
    host_values,
    read_processed,
    silent,
    write_raw,
)

SENTINEL = 9.2e18
SAMPLES = 400
AT = [20, 50, 51, 300]
limits = st.none() | st.floats(-100, 100)


def with_sentinels(at=AT, value=SENTINEL):
    values = host_values(SAMPLES)
    values[at, 1] = value
    return values


def ready(directory, values, **query):
    queries = {name: name for name in NAMES}
    queries[NAMES[1]] = {"expr": NAMES[1], **query}
    config = config_for(directory, queries=queries, training_settings={"model": "linear"})
    write_raw(config, [frame_of(values)], server="http://prometheus.example")
    return config


@given(st.lists(st.floats(-200, 200) | st.just(np.nan), max_size=20), limits, limits)
def test_only_values_within_both_limits_remain(values, low, high):
    column = np.array(values)[:, np.newaxis]
    found = drop_outside(column, [(low, high)])[:, 0]
    for value, left in zip(values, found, strict=True):
        valid = (low is None or value >= low) and (high is None or value <= high)
        assert (left == value) if valid and value == value else np.isnan(left)
    gone = np.isnan(found).sum() - np.isnan(column).sum()
    assert count_outside(column, [(low, high)]).tolist() == [gone]


@given(limits, limits, limits, limits, st.floats(-200, 200))
def test_a_wider_range_lets_through_what_a_narrower_one_does(low, high, lower, higher, value):
    if contains_range((lower, higher), (low, high)):
        inner, outer = (
            drop_outside(np.array([[value]]), [each]) for each in ((low, high), (lower, higher))
        )
        assert np.isnan(inner).all() or not np.isnan(outer).any()


@pytest.mark.parametrize("content", [[[0, 1]], [[1, 0]] * 3, [[0, float("inf")]] * 3, [3] * 3, 7])
def test_damaged_ranges_of_a_bundle_are_refused(content):
    with pytest.raises((TypeError, ValueError)):
        read_ranges(content, 3)


@pytest.mark.parametrize("text", ["[0, 100]", "[null, 100]", "[-1.5, null]"])
def test_either_limit_may_be_null(text):
    config = read_config(f"queries: {{a: up, b: {{expr: up, valid_range: {text}}}}}")
    assert config.valid_ranges == ((None, None), tuple(json.loads(text)))
    assert read_config("queries: {a: up}").valid_ranges == ()


def test_collect_leaves_out_what_is_outside_and_counts_it(tmp_path):
    known = {"a": [({}, lambda t: SENTINEL if t in {60.0, 90.0} else t)]}
    with stub_server(curves(known)) as stub:
        config = config_for(tmp_path, queries={"a": {"expr": "a", "valid_range": [0, None]}})
        data = config.data_settings.model_copy(
            update={"start_time_iso": 0.0, "end_time_iso": 585.0, "step": 15.0}
        )
        query = config.queries["a"].model_copy(update={"valid_range": (0.0, 1e9)})
        config = config.model_copy(
            update={"prometheus_url": stub.url, "data_settings": data, "queries": {"a": query}}
        )
        for _ in range(2):  # the second time from the cache
            done = collect(config, now=NOW)
            assert done.outside == {"a": 2}
            (frame,), metadata = read_frames(done.path, "collect")
            assert np.flatnonzero(np.isnan(frame.values[0, :, 0])).tolist() == [4, 6]
    assert json.loads(metadata["valid_ranges"]) == [[0.0, 1e9]]


def test_preprocess_sees_missing_values_in_their_place(tmp_path):
    limited = ready(tmp_path / "a", with_sentinels(), valid_range=[0, 1e6])
    missing = ready(tmp_path / "b", with_sentinels(value=np.nan))
    report = preprocess(limited)
    preprocess(missing)
    assert report.features[NAMES[1]].outside == 4
    assert f"  valid_range: 4 samples outside in {NAMES[1]}" in list(format_preprocessed(report))
    for one, other in zip(read_processed(limited)[0], read_processed(missing)[0], strict=True):
        np.testing.assert_array_equal(one.values, other.values)


def test_scoring_sees_missing_values_in_their_place():
    detector = detector_of()
    ranges = ((None, None), (0.0, 1e6), (None, None))
    limited = Preparation.from_json(
        json.loads(json.dumps({**detector.preparation.to_json(), "valid_ranges": ranges}))
    )
    assert limited.valid_ranges == ranges
    found = score_frame(replace(detector, preparation=limited), frame_of(with_sentinels()))
    expected = score_frame(detector_of(), frame_of(with_sentinels(value=np.nan)))
    np.testing.assert_array_equal(found.score, expected.score)
    np.testing.assert_array_equal(found.observed, expected.observed)
    assert found.missing[0, AT, 1].all()


def test_data_that_was_collected_with_a_narrower_range_is_refused(tmp_path):
    config = ready(tmp_path, host_values(SAMPLES), valid_range=[0, None])
    ranges = json.dumps([[None, None], [0, 50], [None, None]])
    write_raw(config, [frame_of(host_values(SAMPLES))], valid_ranges=ranges)
    with pytest.raises(DataError, match=r"valid_range \[0, 50\]; .* has \[0, null\] "):
        preprocess(config)


# Without a valid range


def test_sentinels_are_named_and_training_refuses_a_blind_feature(tmp_path):
    config = ready(tmp_path, with_sentinels())
    lines = list(format_preprocessed(preprocess(config)))
    (line,) = (line for line in lines if "look like" in line)
    assert line.startswith(f"  {NAMES[1]}: 4 samples look like a sentinel value (9.2e+18; all ")
    assert line.endswith(f"— set valid_range in queries.{NAMES[1]}")
    with pytest.raises(DataError, match=f"sentinel values hide all others of {NAMES[1]} — set"):
        train(config, silent, now=lambda: NOW)
    report = train(config, silent, now=lambda: NOW, force=True)
    assert any("sentinel values hide" in line for line in format_training(report))


def test_sentinels_after_the_training_part_blind_nothing(tmp_path):
    config = ready(tmp_path, with_sentinels([390]))
    report = preprocess(config)
    assert report.features[NAMES[1]].sentinels.count == 1
    assert train(config, silent, now=lambda: NOW).blind == ()


@pytest.mark.parametrize("value", [1e200, -1.7e308])
@pytest.mark.parametrize("at", [AT, slice(None)])
def test_values_too_large_to_compute_with_are_refused(tmp_path, value, at):
    config = ready(tmp_path, with_sentinels(at, value))
    with pytest.raises(DataError, match=rf"{NAMES[1]} has values that are too large to compute "):
        preprocess(config)


def test_a_valid_range_that_holds_nothing_is_told_as_such(tmp_path):
    config = ready(tmp_path, host_values(SAMPLES), valid_range=[1e9, None])
    with pytest.raises(DataError, match=f"{NAMES[1]} has no value at all"):
        preprocess(config)
