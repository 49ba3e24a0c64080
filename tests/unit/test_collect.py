"""collect writes every sample of every period, or says why not and leaves what was there."""

import json

import numpy as np
import pytest

from promad.config import Config
from promad.config.durations import format_instant
from promad.data.artifacts import read_frames
from promad.errors import DataError, PrometheusError
from promad.stages.collect import choose_periods, collect
from tests.support.prometheus_server import PrometheusServer, openmetrics
from tests.support.prometheus_stub import Say, curves, stub_server

STEP = 15.0
START = 1_750_000_005.0
SAMPLES = 4000
NOW = START + 30 * 86400.0


def config_for(url, directory, queries, **data_settings):
    return Config.model_validate(
        {
            "prometheus_url": url,
            "artifacts_dir": directory,
            "queries": queries,
            "data_settings": {"step": "15s", **data_settings},
        }
    )


def between(start, end):
    return {"start": format_instant(start), "end": format_instant(end)}


def periods_of(config):
    return choose_periods(config.data_settings, NOW, latency_offset=10.0)


def test_the_default_period_ends_when_the_newest_sample_is_complete():
    config = config_for("http://x", "a", {"x": "up"}, collection_period_hours=2)
    assert periods_of(config) == [(NOW - 10 - 7200, NOW - 10)]


def test_start_and_end_come_before_hours_and_periods_before_both():
    hours = {"collection_period_hours": 2}
    ends = {"start_time_iso": format_instant(0), "end_time_iso": format_instant(60)}
    listed = {"collection_periods_iso": [between(100, 200), between(300, 400)]}
    assert periods_of(config_for("http://x", "a", {"x": "up"}, **hours, **ends)) == [(0, 60)]
    config = config_for("http://x", "a", {"x": "up"}, **hours, **ends, **listed)
    assert periods_of(config) == [(100, 200), (300, 400)]


def test_the_future_is_cut_off():
    listed = [between(NOW - 100, NOW + 100), between(NOW + 200, NOW + 300)]
    config = config_for("http://x", "a", {"x": "up"}, collection_periods_iso=listed)
    assert periods_of(config) == [(NOW - 100, NOW)]


def test_a_period_that_lies_wholly_in_the_future_is_refused(tmp_path):
    listed = [between(NOW + 200, NOW + 300)]
    config = config_for("http://127.0.0.1:9", tmp_path, {"x": "up"}, collection_periods_iso=listed)
    with pytest.raises(DataError, match="set a longer or an earlier period"):
        collect(config, now=NOW)


def test_the_summary_says_what_was_written(tmp_path):
    known = {"a": [({}, lambda t: t)], "b": [({}, lambda t: t if t % 60 else None)]}
    period = {"start_time_iso": 0.0, "end_time_iso": 585.0}
    seen = []
    with stub_server(curves(known)) as stub:
        config = config_for(stub.url, tmp_path, {"x": "a", "y": "b"}, **period)
        done = collect(config, now=NOW, progress=lambda *p: seen.append(p))
    assert done.path == tmp_path / "prometheus_metrics_data.parquet"
    assert (done.samples, done.features, done.periods) == (40, ("x", "y"), ((0.0, 585.0),))
    assert done.missing_share == {"x": 0.0, "y": 0.25}
    assert (done.requests, done.points, done.chunks_from_cache) == (2, 70, 0)
    assert done.seconds > 0
    assert seen == [(1, 2, "x"), (2, 2, "y")]


def test_a_failed_query_leaves_the_file_of_the_last_run(tmp_path):
    period = {"start_time_iso": 0.0, "end_time_iso": 585.0}
    fine = curves({"a": [({}, lambda t: t)]})
    with stub_server(lambda asked: fine(asked) if asked.form["query"] == "a" else Say(422)) as stub:
        done = collect(config_for(stub.url, tmp_path, {"x": "a"}, **period), now=NOW)
        before = done.path.read_bytes()
        with pytest.raises(PrometheusError, match=r"^query y: "):
            collect(config_for(stub.url, tmp_path, {"x": "a", "y": "b"}, **period), now=NOW)
    assert done.path.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"cache", done.path.name}


def test_the_first_failed_run_leaves_no_file(tmp_path):
    with stub_server(lambda _: Say(422)) as stub:
        config = config_for(stub.url, tmp_path / "new", {"x": "a"})
        with pytest.raises(PrometheusError):
            collect(config, now=NOW)
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def history():
    """Times, and values (samples, 3) of which the third is missing for a quarter of an hour."""
    times = START + STEP * np.arange(SAMPLES)
    values = np.random.default_rng(3).normal(size=(SAMPLES, 3)) * [1.0, 1e-7, 1e12]
    values[1000:1060, 2] = np.nan
    return times, values


@pytest.fixture(scope="module")
def server(tmp_path_factory, history):
    times, values = history
    names = ['load{host="a"}', 'tiny{host="a"}', 'huge{host="a",note="\\"values\\":[["}']
    series = {
        name: [(t, v) for t, v in zip(times.tolist(), values[:, i].tolist(), strict=True) if v == v]
        for i, name in enumerate(names)
    }
    series |= {f'cores{{cpu="{cpu}"}}': [(START, 1.0)] for cpu in range(3)}
    server = PrometheusServer(tmp_path_factory.mktemp("prometheus"))
    server.backfill(openmetrics(series))
    with server:
        yield server


QUERIES = {"load": "load", "tiny": "tiny", "huge": "last_over_time(huge[10s])"}


def test_what_was_written_to_prometheus_is_what_collect_reads(server, history, tmp_path):
    times, values = history
    config = config_for(
        server.url,
        tmp_path,
        QUERIES,
        collection_periods_iso=[between(times[2000], times[-1]), between(times[0], times[1499])],
        cache_chunk_hours=1,
    )
    done = collect(config, now=NOW)
    (first, second), metadata = read_frames(done.path, made_by="collect")
    np.testing.assert_array_equal(first.times, times[:1500])
    np.testing.assert_array_equal(first.values[0], values[:1500])
    np.testing.assert_array_equal(second.times, times[2000:])
    np.testing.assert_array_equal(second.values[0], values[2000:])
    assert first.features == ("load", "tiny", "huge")
    assert done.missing_share["huge"] == 60 / done.samples
    assert metadata["server"] == server.url
    assert json.loads(metadata["queries"]) == QUERIES
    assert float(metadata["step_seconds"]) == STEP
    assert json.loads(metadata["periods"])[0] == between(times[0], times[1499])
    assert metadata["collected_at"] == format_instant(NOW)

    again = collect(config, now=NOW)
    assert (again.requests, again.points) == (1, 180)  # the hour with missing samples
    assert again.chunks_from_cache > 0
    for frame, other in zip(read_frames(again.path, "collect")[0], (first, second), strict=True):
        np.testing.assert_array_equal(frame.values, other.values)


def test_gzip_brings_the_same(server, history, tmp_path):
    times, values = history
    config = config_for(
        server.url, tmp_path, QUERIES, collection_periods_iso=[between(*times[[0, -1]])]
    )
    zipped = config.model_copy(
        update={"prometheus": config.prometheus.model_copy(update={"compression": "gzip"})}
    )
    ((frame,), _) = read_frames(collect(zipped, now=NOW).path, "collect")
    np.testing.assert_array_equal(frame.values[0], values)


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        ("cores", r"^query x: cores: 3 series, expected one: cores\{cpu=\"0\"\}, .* sum\("),
        ("nothing", "^query x: nothing: no series in the requested period"),
        ('label_replace(load, "a b", "", "", "")', r"^query x: http://.*HTTP 422 .*label name"),
    ],
)
def test_what_prometheus_makes_of_a_mistake_is_told(server, tmp_path, expr, message):
    period = {"start_time_iso": START, "end_time_iso": START + 600}
    with pytest.raises(PrometheusError, match=message):
        collect(config_for(server.url, tmp_path, {"x": expr}, **period), now=NOW)
