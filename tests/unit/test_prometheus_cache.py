"""What was fetched once is not fetched again, and what was not complete is never taken for it."""

from dataclasses import replace

import numpy as np
import pytest

from promad.config import PrometheusSettings
from promad.data.frame import points_between
from promad.errors import PrometheusError
from promad.prometheus import ChunkCache, PrometheusClient, fetch_history
from promad.prometheus.authentication import hash_selection
from promad.prometheus.cache import SETTLE_SECONDS, Chunk
from promad.prometheus.grid import Span
from tests.support.prometheus_stub import Say, curves, matrix, stub_server

HOUR = 3600.0
NOW = 1000 * HOUR
STEP = 15.0
UP = {"up": "up"}
LABELS = (("job", "a"),)
ONE = curves({"up": [(dict(LABELS), lambda t: t / 7)]})


def cache_in(directory, server="http://x", step=STEP, chunk_seconds=HOUR):
    return ChunkCache(directory, server, step, chunk_seconds)


def fetch(stub, periods, cache, now=NOW, queries=UP, step=STEP):
    with PrometheusClient(stub.url, PrometheusSettings(), retries=0) as client:
        return fetch_history(client, queries, periods, step, now=now, cache=cache)


def asked_spans(stub):
    return sorted((float(a.form["start"]), float(a.form["end"])) for a in stub.asked)


def files(directory):
    return sorted(path for path in directory.rglob("*") if path.is_file())


def test_a_second_run_asks_for_nothing_and_finds_the_same(tmp_path):
    periods = [(NOW - 20.3 * HOUR, NOW - 5.7 * HOUR)]
    with stub_server(ONE) as stub:
        first = fetch(stub, periods, cache_in(tmp_path))
        second = fetch(stub, periods, cache_in(tmp_path))
    assert (first.requests, second.requests) == (1, 0)
    assert (first.chunks_from_cache, second.chunks_from_cache) == (0, 16)
    np.testing.assert_array_equal(first.frames[0].values, second.frames[0].values)


def test_a_later_run_asks_only_for_what_is_new(tmp_path):
    with stub_server(ONE) as stub:
        fetch(stub, [(NOW - 10 * HOUR, NOW)], cache_in(tmp_path))
        stub.asked.clear()
        later = NOW + HOUR
        (frame,) = fetch(stub, [(later - 10 * HOUR, later)], cache_in(tmp_path), later).frames
    assert asked_spans(stub) == [(NOW - HOUR, later)]  # the newest chunk had not settled yet
    np.testing.assert_array_equal(frame.values[0, :, 0], frame.times / 7)


def test_a_longer_period_asks_only_for_what_is_added(tmp_path):
    with stub_server(ONE) as stub:
        fetch(stub, [(NOW - 10 * HOUR, NOW - 5 * HOUR - STEP)], cache_in(tmp_path))
        stub.asked.clear()
        fetch(stub, [(NOW - 12 * HOUR, NOW - 4 * HOUR - STEP)], cache_in(tmp_path))
    assert asked_spans(stub) == [
        (NOW - 12 * HOUR, NOW - 10 * HOUR - STEP),
        (NOW - 5 * HOUR, NOW - 4 * HOUR - STEP),
    ]


def test_a_part_of_a_chunk_is_never_taken_for_all_of_it(tmp_path):
    with stub_server(ONE) as stub:
        fetch(stub, [(NOW - 4.5 * HOUR, NOW - 4.25 * HOUR)], cache_in(tmp_path))
        (frame,) = fetch(stub, [(NOW - 5 * HOUR, NOW - 4 * HOUR)], cache_in(tmp_path)).frames
    assert len(stub.asked) == 2
    assert not np.isnan(frame.values).any()


def test_a_part_of_what_is_kept_of_a_chunk_is_used(tmp_path):
    with stub_server(ONE) as stub:
        fetch(stub, [(NOW - 4.75 * HOUR, NOW - 4.25 * HOUR)], cache_in(tmp_path))
        done = fetch(stub, [(NOW - 4.5 * HOUR, NOW - 4.4 * HOUR)], cache_in(tmp_path))
    assert (done.requests, done.chunks_from_cache) == (0, 1)
    np.testing.assert_array_equal(done.frames[0].values[0, :, 0], done.frames[0].times / 7)


def test_missing_chunks_that_touch_are_asked_for_together(tmp_path):
    with stub_server(ONE) as stub:
        fetch(stub, [(NOW - 100 * HOUR, NOW - HOUR)], cache_in(tmp_path))
    assert sorted(asked.points for asked in stub.asked) == [3_761, 10_000, 10_000]


@pytest.mark.parametrize(("age", "kept"), [(SETTLE_SECONDS, False), (SETTLE_SECONDS + 1, True)])
def test_a_chunk_is_kept_only_once_it_lies_wholly_in_the_past(tmp_path, age, kept):
    with stub_server(ONE) as stub:
        fetch(stub, [(NOW - HOUR, NOW - STEP)], cache_in(tmp_path), now=NOW + age)
    assert bool(files(tmp_path)) == kept


def test_a_chunk_without_any_value_is_not_kept(tmp_path):
    late = curves({"up": [({}, lambda t: t if t >= NOW - 5 * HOUR else None)]})
    with stub_server(late) as stub:
        fetch(stub, [(NOW - 6 * HOUR, NOW - 4 * HOUR - STEP)], cache_in(tmp_path))
    assert len(files(tmp_path)) == 1


def test_a_chunk_with_missing_samples_is_asked_for_again(tmp_path):
    period = [(NOW - 6 * HOUR, NOW - 4 * HOUR - STEP)]
    late = curves({"up": [({}, lambda t: 1.0 if t % HOUR >= 600 or t < NOW - 5 * HOUR else None)]})
    with stub_server(late) as stub:
        fetch(stub, period, cache_in(tmp_path))
    with stub_server(curves({"up": [({}, lambda t: 1.0)]})) as stub:
        cache = cache_in(tmp_path, server="http://x")
        done = fetch(stub, period, cache)
        assert not np.isnan(done.frames[0].values).any()
        assert done.chunks_from_cache == 1
        assert fetch(stub, period, cache).requests == 0


def test_a_chunk_fetched_with_a_warning_is_not_kept(tmp_path):
    half = Say(body=matrix({(): [(t, 0.5) for t in np.arange(0.0, HOUR, STEP)]}, ["store down"]))
    client_settings = PrometheusSettings()
    with (
        stub_server([half]) as stub,
        PrometheusClient(stub.url, client_settings, retries=0) as client,
    ):
        fetch_history(
            client, UP, [(0.0, HOUR - STEP)], STEP,
            now=NOW, cache=cache_in(tmp_path), allow_partial=True,
        )  # fmt: skip
    assert files(tmp_path) == []


def test_refresh_ignores_the_cache_and_renews_it(tmp_path):
    period = [(NOW - 3 * HOUR, NOW - 2 * HOUR - STEP)]
    with stub_server(curves({"up": [({}, lambda t: 1.0)]})) as stub:
        fetch(stub, period, cache_in(tmp_path))
    with stub_server(curves({"up": [({}, lambda t: 2.0)]})) as stub:
        done = fetch(stub, period, replace(cache_in(tmp_path), refresh=True))
        again = fetch(stub, period, cache_in(tmp_path))
    assert (done.requests, again.requests) == (1, 0)
    assert (again.frames[0].values == 2.0).all()


def selections(tmp_path):
    (tmp_path / "tenant").write_text("c")
    (tmp_path / "cert").write_text("certificate")
    return [
        {},
        {"http_headers": {"X-Scope-OrgID": {"values": ["a"]}}},
        {"http_headers": {"X-Scope-OrgID": {"values": ["b"]}}},
        {"http_headers": {"X-Scope-OrgID": {"secrets": ["s3cret"]}}},
        {"http_headers": {"X-Scope-OrgID": {"files": [tmp_path / "tenant"]}}},
        {"basic_auth": {"username": "a", "password": "s3cret"}},
        {"basic_auth": {"username": "b", "password": "s3cret"}},
        {"authorization": {"credentials": "s3cret"}},
        {"authorization": {"credentials": "other"}},
        {"tls_config": {"cert_file": tmp_path / "cert"}},
        {"proxy_url": "http://u:s3cret@proxy.example:3128"},
    ]


def test_everything_that_selects_the_data_is_in_the_key(tmp_path):
    hashes = [hash_selection(PrometheusSettings(**each)) for each in selections(tmp_path)]
    assert len(set(hashes)) == len(hashes)
    assert not any("s3cret" in each for each in hashes)


def test_each_set_of_parameters_has_its_own_chunks():
    params = [{}, {"dedup": True}, {"dedup": False}, {"dedup": [True, False]}, {"other": True}]
    hashes = {hash_selection(PrometheusSettings(params=each)) for each in params}
    assert len(hashes) == len(params)


@pytest.mark.parametrize(
    "same",
    [
        {"timeout": "5s"},
        {"compression": "gzip"},
        {"http_method": "GET"},
        {"max_points_per_request": 9},
        {"union_queries": False},
    ],
)
def test_what_selects_nothing_is_not_in_the_key(same):
    assert hash_selection(PrometheusSettings(**same)) == hash_selection(PrometheusSettings())


def test_a_new_password_changes_nothing_and_a_new_tenant_in_a_file_does(tmp_path):
    old, new = ({"basic_auth": {"username": "a", "password": each}} for each in ("x", "y"))
    assert hash_selection(PrometheusSettings(**old)) == hash_selection(PrometheusSettings(**new))
    file = tmp_path / "tenant"
    settings = PrometheusSettings(http_headers={"X-Scope-OrgID": {"files": [file]}})
    file.write_text("a")
    before = hash_selection(settings)
    file.write_text("b")
    assert hash_selection(settings) != before


def test_selections_do_not_share_chunks(tmp_path):
    period = [(NOW - 3 * HOUR, NOW - 2 * HOUR - STEP)]
    with stub_server(ONE) as stub:
        for selection in "ab":
            fetch(stub, period, replace(cache_in(tmp_path), selection=selection))
        assert len(stub.asked) == 2


def test_servers_expressions_and_steps_do_not_share_chunks(tmp_path):
    known = curves({"a": [({}, lambda t: 1.0)], "b": [({}, lambda t: 2.0)]})
    period = [(NOW - 3 * HOUR, NOW - 2 * HOUR - 60)]
    with stub_server(known) as stub:
        fetch(stub, period, cache_in(tmp_path), queries={"x": "a"})
        fetch(stub, period, cache_in(tmp_path), queries={"x": "b"})
        fetch(stub, period, cache_in(tmp_path, step=30.0), queries={"x": "a"}, step=30.0)
        fetch(stub, period, cache_in(tmp_path, server="http://y"), queries={"x": "a"})
        assert len(stub.asked) == 4
        fetch(stub, period, cache_in(tmp_path), queries={"renamed": "a"})
        assert len(stub.asked) == 4


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 and no more", None, "flipped"])
def test_a_damaged_file_is_fetched_again(tmp_path, damage):
    period = [(NOW - 3 * HOUR, NOW - 2 * HOUR - STEP)]
    with stub_server(ONE) as stub:
        good = fetch(stub, period, cache_in(tmp_path))
        (file,) = files(tmp_path)
        whole = file.read_bytes()
        half = len(whole) // 2
        flipped = whole[:half] + bytes([whole[half] ^ 0xFF]) + whole[half + 1 :]
        file.write_bytes({None: whole[:half], "flipped": flipped}.get(damage, damage))
        again = fetch(stub, period, cache_in(tmp_path))
        assert (again.requests, file.read_bytes()) == (1, whole)
    np.testing.assert_array_equal(good.frames[0].values, again.frames[0].values)


def test_pickled_content_is_not_loaded(tmp_path):
    cache, part = cache_in(tmp_path), Span(0.0, HOUR - STEP)
    cache.write("up", Chunk(part, LABELS, np.zeros(points_between(0.0, part.end, STEP))), NOW)
    (file,) = files(tmp_path)
    with file.open("wb") as stream:
        np.savez(stream, about=np.array([{}], object), values=np.zeros(240))
    assert cache.read("up", part) is None


def test_labels_are_kept_with_the_values(tmp_path):
    cache, part = cache_in(tmp_path), Span(0.0, 30.0)
    cache.write("up", Chunk(part, LABELS, np.array([1.0, 2.0, 3.0])), NOW)
    chunk = cache.read("up", part)
    assert chunk.labels == LABELS
    np.testing.assert_array_equal(chunk.values, [1.0, 2.0, 3.0])
    assert not [path for path in files(tmp_path) if path.suffix != ".npz"]


def test_label_sets_of_different_runs_are_joined(tmp_path):
    def changing(t):
        return "a" if t < NOW - 5 * HOUR else "b"

    known = curves(
        {
            "up": [
                ({"pod": pod}, lambda t, pod=pod: 1.0 if changing(t) == pod else None)
                for pod in "ab"
            ]
        }
    )
    with stub_server(known) as stub:
        fetch(stub, [(NOW - 6 * HOUR, NOW - 5 * HOUR - STEP)], cache_in(tmp_path))
        fetch(stub, [(NOW - 5 * HOUR, NOW - 4 * HOUR - STEP)], cache_in(tmp_path))
        done = fetch(stub, [(NOW - 6 * HOUR, NOW - 4 * HOUR - STEP)], cache_in(tmp_path))
        assert len(stub.asked) == 2
    assert not np.isnan(done.frames[0].values).any()


def test_a_failed_run_keeps_the_queries_that_were_complete(tmp_path):
    period = [(NOW - 3 * HOUR, NOW - 2 * HOUR - STEP)]
    with stub_server(ONE) as stub:
        with pytest.raises(PrometheusError, match="query gone"):
            fetch(stub, period, cache_in(tmp_path), queries={**UP, "gone": "gone"})
        stub.asked.clear()
        fetch(stub, period, cache_in(tmp_path), queries=UP)
    assert stub.asked == []


@pytest.mark.parametrize("chunk_hours", [0.1, 1.0, 24.0, 168.0])
def test_any_length_of_chunk_gives_the_same_frame(tmp_path, chunk_hours):
    cache = cache_in(tmp_path, chunk_seconds=chunk_hours * HOUR)
    with stub_server(ONE) as stub:
        for hours in (20.2, 30.1):
            (frame,) = fetch(stub, [(NOW - hours * HOUR, NOW - 3.3 * HOUR)], cache).frames
            np.testing.assert_array_equal(frame.values[0, :, 0], frame.times / 7)
