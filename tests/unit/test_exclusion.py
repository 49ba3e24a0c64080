"""What the configuration excludes is left out of training, all of it and nothing else."""

import json

import numpy as np
import promql_parser
import pytest

from promad.cli.commands.collect import format_collected
from promad.cli.commands.preprocess import format_preprocessed
from promad.config import Config
from promad.config.durations import format_instant
from promad.data.artifacts import read_frames
from promad.errors import DataError, PrometheusError
from promad.prometheus import PrometheusClient
from promad.prometheus.grid import Span
from promad.prometheus.marks import fetch_marks, is_filter
from promad.stages.collect import collect
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from tests.support.prometheus_server import PrometheusServer, openmetrics
from tests.support.prometheus_stub import Say, curves, stub_server
from tests.support.simulated import (
    LENGTH,
    NOW,
    START,
    STEP,
    config_for,
    frame_of,
    host_values,
    read_processed,
    silent,
    write_raw,
)

SAMPLES = 600
ALERT = 'ALERTS{alertstate="firing"}'


def excluding(directory, *entries):
    return config_for(directory, data_settings={"step": "30s", "exclude": list(entries)})


def at(sample):
    return START + STEP * sample


def period(first, last):
    return {"start": format_instant(at(first)), "end": format_instant(at(last))}


def preprocessed(directory, *entries, values=None, **metadata):
    config = excluding(directory, *entries)
    write_raw(config, [frame_of(host_values(SAMPLES) if values is None else values)], **metadata)
    return config, preprocess(config)


def marks(**stretches):
    return {"marks": json.dumps({ALERT: stretches["firing"]})}


@pytest.mark.parametrize(
    ("expr", "filters"),
    [
        ("up == 0", True),
        ("0 == up", True),
        ("(up == 0)", True),
        ("up == 0 and on (job) load", True),
        ("up == 0 unless on (job) maintenance", True),
        ("up == 0 or load > 5", True),
        ("(sum(rate(errors[5m])) > 5)", True),
        ("up == bool 0", False),
        ("up", False),
        ("ALERTS", False),
        ("load and up == 0", False),
        ("absent(up)", False),
        ("max(up == 0)", False),
        ("1 - up", False),
    ],
)
def test_a_comparison_that_filters_at_the_top_is_told_from_all_else(expr, filters):
    assert is_filter(promql_parser.parse(expr)) is filters


def marked(known, expr, start=0.0, end=300.0, step=30.0):
    with (
        stub_server(curves(known)) as stub,
        PrometheusClient(stub.url, Config.model_fields["prometheus"].default) as client,
    ):
        return fetch_marks(client, [expr], [Span(start, end)], step)


def during(start, end, value):
    return lambda time: value if start <= time <= end else None


def test_what_is_not_zero_marks_a_sample():
    curve = [({}, lambda time: float(60 <= time <= 120))]
    assert marked({"x": curve}, "x").marks == {"x": [(60.0, 120.0)]}


def test_what_a_comparison_keeps_marks_a_sample_though_it_is_zero():
    down = [({"job": "a"}, during(60, 90, 0.0))]
    assert marked({"up == 0": down}, "up == 0").marks == {"up == 0": [(60.0, 90.0)]}
    assert marked({"up": down}, "up").marks == {"up": []}


@pytest.mark.parametrize("expr", [r"{job=~`a\d`} == 0", r'up{job=~"\\Qa\\E"} == 0'])
def test_a_filter_is_known_though_its_strings_are_not(expr):
    assert marked({expr: [({}, during(60, 90, 0.0))]}, expr).marks == {expr: [(60.0, 90.0)]}


def test_any_series_of_many_marks_a_sample():
    alerts = [
        ({"alertname": name}, during(*when, 1.0))
        for name, when in {"a": (30, 60), "b": (60, 90), "c": (240, 240)}.items()
    ]
    assert marked({"ALERTS": alerts}, "ALERTS").marks == {"ALERTS": [(30.0, 90.0), (240.0, 240.0)]}


def test_no_series_and_nan_mark_nothing():
    assert marked({}, "ALERTS").marks == {"ALERTS": []}
    unknown = [({}, lambda time: float("nan"))]
    assert marked({"x": unknown}, "x").marks == {"x": []}


def test_many_requests_make_one_stretch():
    always = [({}, lambda time: 1.0)]
    found = marked({"x": always}, "x", end=24_999.0, step=1.0)
    assert found.marks == {"x": [(0.0, 24_999.0)]}
    assert (found.requests, found.points) == (3, 25_000)


def test_a_warning_of_the_server_is_an_error():
    body = '{"status":"success","warnings":["half"],"data":{"resultType":"matrix","result":[]}}'
    with (
        stub_server([Say(body=body)]) as stub,
        PrometheusClient(stub.url, Config.model_fields["prometheus"].default) as client,
        pytest.raises(PrometheusError, match="warning from the server: half"),
    ):
        fetch_marks(client, ["x"], [Span(0.0, 60.0)], 30.0)


def collecting(url, directory, *entries):
    return Config.model_validate(
        {
            "prometheus_url": url,
            "artifacts_dir": directory,
            "queries": {"x": "a"},
            "data_settings": {
                "step": "30s",
                "start_time_iso": 0.0,
                "end_time_iso": 6000.0,
                "exclude": list(entries),
            },
            "training_settings": {"sequence_length": LENGTH},
        }
    )


def test_collect_keeps_the_values_and_notes_what_is_marked(tmp_path):
    known = {"a": [({}, lambda time: time)], ALERT: [({}, during(600, 900, 1.0))]}
    with stub_server(curves(known)) as stub:
        config = collecting(stub.url, tmp_path, ALERT, {"start": 0.0, "end": 30.0})
        done = collect(config, now=NOW)
    assert done.marks == {ALERT: [(600.0, 900.0)]}
    assert (done.requests, done.points) == (2, 201 + 11)
    (frame,), metadata = read_frames(done.path, "collect")
    np.testing.assert_array_equal(frame.values[0, :, 0], frame.times)
    assert json.loads(metadata["marks"]) == {ALERT: [[600.0, 900.0]]}
    assert f"  marked for exclusion: 1 period by {ALERT}" in list(format_collected(done))
    report = preprocess(config)
    assert [stretch.line for stretch in report.excluded] == [
        f"1970-01-01T00:10:00Z/1970-01-01T00:15:00Z {ALERT}",
        "1970-01-01T00:00:00Z/1970-01-01T00:00:30Z period",
    ]


def test_nothing_to_exclude_asks_the_server_nothing_more(tmp_path):
    with stub_server(curves({"a": [({}, lambda time: time)]})) as stub:
        done = collect(collecting(stub.url, tmp_path, {"start": 0.0, "end": 30.0}), now=NOW)
        assert stub.exprs == ["a"]
    assert done.marks == {}


def test_a_period_goes_with_both_its_ends_and_splits_the_data(tmp_path):
    config, report = preprocessed(tmp_path, period(100, 119))
    frames, _, _ = read_processed(config)
    assert report.rows_excluded == 20
    assert (report.rows, report.dropped, report.parts) == (SAMPLES, 0, 2)
    assert [frame.samples for frame in frames] == [100, SAMPLES - 120]
    assert frames[1].start == at(120)


def test_one_sample_left_out_is_never_filled(tmp_path):
    config, report = preprocessed(tmp_path, period(99.9, 100.1))
    frames, preparation, _ = read_processed(config)
    assert (report.rows_excluded, report.parts) == (1, 2)
    windows = preparation.windows(frames, LENGTH)
    for start in windows.starts:
        own = windows.row_times[start : start + LENGTH]
        assert np.allclose(np.diff(own), STEP)
        assert at(100) not in own


def test_what_expressions_mark_is_left_out_like_a_period(tmp_path):
    firing = marks(firing=[[at(100), at(119)]])
    by_expression, _ = preprocessed(tmp_path / "a", ALERT, **firing)
    by_period, _ = preprocessed(tmp_path / "b", period(100, 119))
    (a, of_a, _), (b, of_b, _) = read_processed(by_expression), read_processed(by_period)
    assert of_a.to_json() == of_b.to_json()
    for frame, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(frame.values, other.values)


def test_what_is_excluded_has_no_part_in_the_scaler(tmp_path):
    values = host_values(SAMPLES)
    wild = values.copy()
    wild[100:120] *= 1e6
    _, tame = preprocessed(tmp_path / "a", period(100, 119), values=values)
    config, report = preprocessed(tmp_path / "b", period(100, 119), values=wild)
    assert report.scaler_path.read_bytes() == tame.scaler_path.read_bytes()
    assert max(np.abs(frame.values).max() for frame in read_processed(config)[0]) < 10


def test_samples_left_out_twice_count_once(tmp_path):
    _, report = preprocessed(
        tmp_path, period(100, 119), ALERT, **marks(firing=[[at(110), at(129)]])
    )
    assert (report.rows_excluded, len(report.excluded)) == (30, 2)


@pytest.mark.parametrize("strategy", ["ffill_then_bfill", "none", "drop_rows", "mean"])
def test_whatever_the_filling_no_excluded_sample_is_in_the_file(tmp_path, strategy):
    config = config_for(
        tmp_path,
        data_settings={"step": "30s", "exclude": [period(100, 102)]},
        preprocessing_settings={"nan_fill_strategy": strategy},
    )
    write_raw(config, [frame_of(host_values(SAMPLES))])
    preprocess(config)
    times = np.concatenate([frame.times for frame in read_processed(config)[0]])
    assert not np.isin(times, [at(100), at(101), at(102)]).any()
    assert len(times) == SAMPLES - 3


def test_validation_leaves_it_out_too_and_the_manifest_tells(tmp_path, stub_model):
    config, _ = preprocessed(tmp_path, period(550, 559), ALERT, **marks(firing=[[at(9), at(10)]]))
    report = train(config, silent, now=lambda: NOW)
    whole, _ = preprocessed(tmp_path / "whole")
    assert report.validation_windows < train(whole, silent, now=lambda: NOW).validation_windows
    assert report.bundle.manifest.excluded == [
        f"{format_instant(at(550))}/{format_instant(at(559))} period",
        f"{format_instant(at(9))}/{format_instant(at(10))} {ALERT}",
    ]


def test_what_was_left_out_is_printed_with_its_reason(tmp_path):
    firing = marks(firing=[[at(10 * i), at(10 * i)] for i in range(7)])
    _, report = preprocessed(tmp_path, ALERT, **firing)
    lines = list(format_preprocessed(report))
    assert "  excluded by data_settings.exclude: 7 samples (1.17%)" in lines
    (of_alert,) = (line for line in lines if line.startswith(f"    {ALERT}: 7 periods, "))
    assert of_alert.endswith(" and 2 more")


def test_without_exclusion_nothing_is_said_of_it(tmp_path):
    config, report = preprocessed(tmp_path)
    assert not any("excluded" in line for line in format_preprocessed(report))
    assert (report.excluded, report.rows_excluded) == ((), 0)
    assert read_processed(config)[2].excluded == ()


def test_a_new_period_needs_no_new_collect_and_a_new_expression_does(tmp_path):
    preprocessed(tmp_path)
    preprocess(excluding(tmp_path, period(100, 119)))
    with pytest.raises(
        DataError, match=r"collected without the expression up == 0 of .* run promad collect again"
    ):
        preprocess(excluding(tmp_path, "up == 0"))


def test_an_expression_that_is_no_longer_excluded_is_forgotten(tmp_path):
    firing = marks(firing=[[at(100), at(119)]])
    preprocessed(tmp_path, ALERT, **firing)
    assert preprocess(excluding(tmp_path)).rows_excluded == 0


def test_data_that_was_preprocessed_with_other_exclusions_is_refused(tmp_path):
    preprocessed(tmp_path, period(100, 119))
    with pytest.raises(DataError, match=r"another data_settings.exclude — run promad preprocess"):
        read_processed(excluding(tmp_path))


def test_to_exclude_everything_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"parquet: data_settings.exclude excludes every sample"):
        preprocessed(tmp_path, period(-10, SAMPLES))


def test_a_period_elsewhere_leaves_nothing_out(tmp_path):
    _, report = preprocessed(tmp_path, period(-100, -1), period(SAMPLES, SAMPLES + 100))
    assert (report.rows_excluded, report.excluded) == (0, ())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A load that is always there, a target that is down for a while, and an alert."""
    times = [at(i) for i in range(60)]
    series = {
        "load": [(time, float(i)) for i, time in enumerate(times)],
        'up{job="a"}': [(time, float(not 20 <= i < 30)) for i, time in enumerate(times)],
        'up{job="b"}': [(time, 1.0) for time in times],
    }
    server = PrometheusServer(tmp_path_factory.mktemp("prometheus"))
    server.backfill(openmetrics(series))
    with server:
        yield server


@pytest.mark.parametrize("expr", ["up == 0", "up == bool 0", "1 - up", "max(up == bool 0)"])
def test_prometheus_itself_marks_the_same_whatever_the_spelling(server, tmp_path, expr):
    config = Config.model_validate(
        {
            "prometheus_url": server.url,
            "artifacts_dir": tmp_path,
            "queries": {"load": "load"},
            "data_settings": {
                "step": "30s",
                "start_time_iso": at(0),
                "end_time_iso": at(59),
                "exclude": [expr],
            },
            "training_settings": {"sequence_length": LENGTH},
        }
    )
    assert collect(config, now=NOW).marks == {expr: [(at(20), at(29))]}
