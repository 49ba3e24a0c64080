"""The history of a fleet comes group by group, from chunks that are read from the server once."""

from __future__ import annotations

import numpy as np
import pytest

from promad.config import PrometheusSettings
from promad.config.settings import RelabelConfig
from promad.data.groups import Grouping
from promad.data.relabeling import RelabelRule
from promad.errors import PrometheusError
from promad.prometheus import PrometheusClient
from promad.prometheus.cache import ChunkCache
from promad.prometheus.groups import history as group_history
from promad.prometheus.groups.history import FleetRequest, fetch_fleet
from tests.support.prometheus_stub import Say, curves, stub_server

STEP = 60.0
HOUR = 3600.0
NOW = 1000 * HOUR
PERIODS = ((NOW - 3 * HOUR, NOW - HOUR),)


def ramp(at):
    return at / 7


def hosts(*names, curve=ramp):
    return [({"instance": name, "job": "node"}, curve) for name in names]


def fetch(stub, directory, queries=("cpu", "load"), by=("instance",), rules=(), **options):
    given = {"max_groups": 100, "periods": PERIODS, "step": STEP, **options}
    request = FleetRequest(
        queries={name: name for name in queries},
        grouping=Grouping(by, [RelabelRule.of(RelabelConfig(**rule)) for rule in rules]),
        **given,
    )
    cache = ChunkCache(directory / "cache", stub.url, STEP, HOUR)
    scratch = directory / "scratch"
    scratch.mkdir(exist_ok=True)
    with PrometheusClient(stub.url, PrometheusSettings(), retries=0) as client:
        return fetch_fleet(client, request, scratch, now=NOW, cache=cache)


def read(history):
    return {
        dict(frames[0].groups[0]).get("instance"): frames for frames in history.iterate_groups()
    }


FINE = {"cpu": hosts("b", "a"), "load": hosts("a", "b", curve=lambda at: -at)}


def test_each_group_has_its_own_frame_of_all_queries(tmp_path):
    with stub_server(curves(FINE)) as stub:
        found = read(fetch(stub, tmp_path))
    assert list(found) == ["a", "b"]
    for (frame,) in found.values():
        assert (frame.start, frame.end) == PERIODS[0]
        np.testing.assert_array_equal(frame.values[0, :, 0], frame.times / 7)
        np.testing.assert_array_equal(frame.values[0, :, 1], -frame.times)


def test_whole_chunks_are_asked_for_once(tmp_path):
    with stub_server(curves(FINE)) as stub:
        first = fetch(stub, tmp_path)
        asked = len(stub.asked)
        again = fetch(stub, tmp_path)
        assert (first.chunks_from_cache, again.chunks_from_cache) == (0, 4)
        assert len(stub.asked) - asked == 2  # the one sample at the end is no whole chunk
        expected = read(first)
        for name, (frame,) in read(again).items():
            np.testing.assert_array_equal(frame.values, expected[name][0].values)


def test_a_damaged_chunk_is_asked_for_again(tmp_path):
    with stub_server(curves(FINE)) as stub:
        expected = {
            name: frame.values.copy() for name, (frame,) in read(fetch(stub, tmp_path)).items()
        }
        paths = sorted((tmp_path / "cache").rglob("*.npy"))
        paths[0].write_bytes(paths[0].read_bytes()[:200])
        paths[1].write_bytes(b"")
        again = fetch(stub, tmp_path)
        assert again.chunks_from_cache == 2
        for name, (frame,) in read(again).items():
            np.testing.assert_array_equal(frame.values, expected[name])


def test_how_many_groups_are_read_at_once_changes_nothing(tmp_path, monkeypatch):
    with stub_server(curves(FINE)) as stub:
        history = fetch(stub, tmp_path)
        expected = read(history)
        monkeypatch.setattr(group_history, "_BLOCK_BYTES", 1)
        for name, (frame,) in read(history).items():
            np.testing.assert_array_equal(frame.values, expected[name][0].values)


def test_a_group_lasts_from_its_first_to_its_last_value(tmp_path):
    born, gone = PERIODS[0][0] + 600, PERIODS[0][1] - 600
    known = {"cpu": hosts("a") + hosts("b", curve=lambda at: at if born <= at <= gone else None)}
    with stub_server(curves(known)) as stub:
        ((frame,)) = read(fetch(stub, tmp_path, ["cpu"]))["b"]
    assert (frame.start, frame.end) == (born, gone)


def test_pods_that_follow_one_another_are_one_workload(tmp_path):
    change = PERIODS[0][0] + HOUR / 2
    known = {
        "cpu": [
            ({"pod": "web-a1"}, lambda at: ramp(at) if at < change else None),
            ({"pod": "web-b2"}, lambda at: ramp(at) if at >= change else None),
        ]
    }
    rule = {"source_labels": ["pod"], "regex": "(.+)-[^-]+", "target_label": "pod"}
    with stub_server(curves(known)) as stub:
        history = fetch(stub, tmp_path, ["cpu"], ("pod",), [rule])
        ((frame,),) = history.iterate_groups()
    assert history.groups == ((("pod", "web"),),)
    np.testing.assert_array_equal(frame.values[0, :, 0], frame.times / 7)


def test_series_of_one_group_that_overlap_are_refused_with_their_labels(tmp_path):
    double = [({"instance": "b", "disk": disk}, ramp) for disk in ("sda", "sdb")]
    with stub_server(curves({"cpu": hosts("a") + double})) as stub:
        history = fetch(stub, tmp_path, ["cpu"])
        with pytest.raises(PrometheusError) as caught:
            list(history.iterate_groups())
    assert str(caught.value).startswith(
        'query cpu: 2 series of the group {instance="b"} at the same time: '
        '{disk="sda", instance="b"}, {disk="sdb", instance="b"} — aggregate with '
        "sum by (instance) (…), or add labels to group_by"
    )


def test_a_short_overlap_is_a_gap_and_is_counted(tmp_path):
    start = PERIODS[0][0]
    known = {
        "cpu": [
            ({"instance": "a", "x": "1"}, lambda at: 1.0 if at <= start + 300 else None),
            ({"instance": "a", "x": "2"}, lambda at: 2.0 if at >= start + 240 else None),
        ]
    }
    with stub_server(curves(known)) as stub:
        history = fetch(stub, tmp_path, ["cpu"])
        ((frame,),) = history.iterate_groups()
    assert np.isnan(frame.values[0, :, 0]).sum() == 2
    assert dict(history.overlaps) == {((("instance", "a"),), "cpu"): 2}


def test_groups_beyond_max_groups_are_left_out_and_counted(tmp_path):
    with stub_server(curves({"cpu": hosts("c", "a", "b")})) as stub:
        history = fetch(stub, tmp_path, ["cpu"], max_groups=2)
        assert list(read(history)) == ["a", "b"]
    assert history.refused == 1


def test_a_query_without_any_series_of_a_group_is_refused(tmp_path):
    drop = {"action": "drop", "source_labels": ["job"], "regex": "node"}
    with stub_server(curves(FINE)) as stub:
        with pytest.raises(PrometheusError, match=r"^query none: .*no series"):
            fetch(stub, tmp_path, ["cpu", "none"])
        with pytest.raises(PrometheusError, match=r"^query cpu: .*group_relabel_configs drop"):
            fetch(stub, tmp_path, ["cpu"], rules=[drop])


def test_a_query_that_fails_names_its_alias(tmp_path):
    with (
        stub_server(lambda _: Say(422)) as stub,
        pytest.raises(PrometheusError, match=r"^query cpu: "),
    ):
        fetch(stub, tmp_path, ["cpu"])
