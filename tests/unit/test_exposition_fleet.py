"""The metrics of fleets: rendered lines are those that prometheus_client writes."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector
from starlette.requests import Request

from promad.data.groups import Labels
from promad.events.incident_book import IncidentBook, IncidentRules, survey_groups
from promad.events.verdict import CONTRIBUTION, State
from promad.exposition import (
    AnySnapshot,
    Snapshot,
    SnapshotCollector,
    collect_fleets,
    merge_fleets,
    names,
)
from promad.exposition.columns import IncidentColumns
from promad.exposition.feature_choice import choose_features
from promad.exposition.groups import split_snapshots
from promad.exposition.names import INCIDENT_METRICS, MetricSpec, MetricType
from promad.exposition.render import FleetRenderer
from promad.exposition.scrape_target import ScrapeTarget
from promad.exposition.segments import Joined, Segment, join_compressed
from promad.exposition.text import write_header, write_labels, write_lines
from promad.http_server import WebServer, listen
from promad.web import metrics
from promad.web.app import build_app
from promad.web.metrics import ScrapeAnswers, gather_parts
from tests.support.fleet_snapshots import (
    AT,
    PREFIX,
    add_largest,
    make_columns,
    make_snapshot,
    make_status,
    name_hosts,
)
from tests.support.incidents import make_event

STATES = (State.OK, State.ANOMALOUS, State.BLIND, State.WARMING, State.OK)
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@dataclass(frozen=True, eq=False)
class Families(Collector):
    """Collects what it was given."""

    families: Sequence[Metric]

    def collect(self) -> Iterator[Metric]:
        yield from self.families


def read(snapshots: Sequence[AnySnapshot], *, openmetrics: bool = False, **options: Any) -> str:
    """The exposition of fleets."""
    segments = merge_fleets(snapshots, openmetrics, **options)
    return b"".join(segment.plain for segment in segments).decode()


def list_lines(text: str, name: str) -> list[str]:
    """The series of one metric, in order, without its name."""
    return [line[len(name) :] for line in text.splitlines() if line.startswith(f"{name}{{")]


# As prometheus_client writes it


LABEL_VALUE = st.text(st.sampled_from('a"\\\nü€😀{},= '), max_size=6)
VALUE = st.one_of(
    st.floats(),
    st.floats(-1e7, 1e7),
    st.integers(-(10**18), 10**18).map(float),
    st.sampled_from([0.0, -0.0, 1e6, 999999.9, 1e-4, 9.9e-5, 1e16, 1e22, -1e6, 5e-324, 1.7e9]),
)


@given(st.lists(st.tuples(LABEL_VALUE, LABEL_VALUE, VALUE), max_size=8), st.booleans())
@settings(max_examples=300, deadline=None)
def test_lines_and_headers_are_those_of_prometheus_client_in_both_formats(
    rows: list[tuple[str, str, float]], counter: bool
) -> None:
    help_text = 'Says "how much",\nup to \\.'
    kind = MetricType.COUNTER if counter else MetricType.GAUGE
    spec = MetricSpec("a_total" if counter else "a", help_text, type=kind)
    family = (CounterMetricFamily if counter else GaugeMetricFamily)("a", help_text)
    for zone, host, value in rows:
        if np.isfinite(value):
            family.add_sample(spec.name, {"zone": zone, "host": host}, value)
    labels = [write_labels({"zone": zone, "host": host}) for zone, host, _ in rows]
    lines = write_lines(spec.name, labels, np.array([value for *_, value in rows]))
    collector = Families([family])
    assert write_header(spec, spec.name, False) + lines == generate_latest(collector)
    openmetrics = write_header(spec, spec.name, True) + lines + b"# EOF\n"
    assert openmetrics == generate_openmetrics(collector)


@pytest.mark.parametrize("plain", [False, True])
def test_a_fleet_is_exposed_as_its_groups_would_be_one_by_one(plain: bool) -> None:
    hosts = (*name_hosts(40), (("instance", 'ü"\\\n'),))
    columns = add_largest(make_columns(hosts, STATES, ("cpu", "load", 'di"sk'), plain=plain))
    statuses = tuple(make_status(columns, row) for row in range(len(hosts)))
    alone = SnapshotCollector(lambda: [Snapshot("hosts", PREFIX, statuses)])
    for openmetrics, generate in ((False, generate_latest), (True, generate_openmetrics)):
        text = read([make_snapshot(columns)], openmetrics=openmetrics)
        for family in alone.collect():
            expected = generate(Families([family])).decode().removesuffix("# EOF\n")
            assert expected in text, family.name


def test_every_family_is_there_with_help_and_type_once_however_many_detectors_share_it() -> None:
    fleets = [
        make_snapshot(make_columns(name_hosts(3), STATES), detector=detector)
        for detector in ("a", "b")
    ]
    single = Snapshot("c", PREFIX, (make_status(make_columns([()], (State.ANOMALOUS,)), 0),))
    text = read([fleets[0], single, fleets[1]])
    families = {family.name: family for family in parse_text(text)}
    heads = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads)) == len(families)
    score = families[PREFIX + "score"]
    assert {sample.labels["detector"] for sample in score.samples} == {"a", "b", "c"}
    assert [*parse_openmetrics(read(fleets, openmetrics=True) + "# EOF\n")]


def test_the_registry_has_the_detectors_of_one_group_whose_prefix_no_fleet_has() -> None:
    fleet = make_snapshot(make_columns(name_hosts(3)))
    status = make_status(make_columns([()]), 0)
    shared, own = Snapshot("a", PREFIX, (status,)), Snapshot("b", "own_", (status,))
    found = {
        family.name
        for family in SnapshotCollector(
            lambda: split_snapshots([fleet, shared, own]).others
        ).collect()
    }
    assert found
    assert all(name.startswith("own_") for name in found)
    assert "\nown_" not in read([fleet, shared, own])


def test_unknown_values_are_withdrawn() -> None:
    columns = make_columns(name_hosts(2))
    columns = replace(
        columns,
        threshold=np.array([np.inf, 0.0]),
        score=np.array([np.nan, 1.0]),
        mse=np.array([np.nan, -np.inf]),
    )
    text = read([make_snapshot(columns)])
    for name in ("score", "latest_reconstruction_error_mse"):
        assert list_lines(text, PREFIX + name) == []
    assert list_lines(text, PREFIX + "threshold") == [
        '{detector="hosts",instance="host-00001:9100"} 0.0'
    ]


def test_labels_follow_groups_that_come_and_go() -> None:
    renderer = FleetRenderer("hosts", PREFIX, 10)
    hosts = name_hosts(30)
    for groups in (hosts[:20], hosts[5:], hosts[7:9], (), hosts):
        columns = make_columns(groups, STATES, seed=len(groups))
        kept = renderer.render(columns, IncidentColumns()).families
        fresh = FleetRenderer("hosts", PREFIX, 10).render(columns, IncidentColumns()).families
        assert kept[names.STATE].plain == fresh[names.STATE].plain
        assert kept[names.SCORE].plain == fresh[names.SCORE].plain


def test_groups_are_counted_by_state_and_those_refused_too() -> None:
    columns = make_columns(name_hosts(10), STATES)
    text = read([make_snapshot(columns, IncidentColumns(groups_refused=7))])
    assert list_lines(text, "promad_groups") == [
        '{detector="hosts",state="warming"} 2.0',
        '{detector="hosts",state="ok"} 4.0',
        '{detector="hosts",state="anomalous"} 2.0',
        '{detector="hosts",state="blind"} 2.0',
    ]
    assert list_lines(text, "promad_groups_refused") == ['{detector="hosts"} 7.0']


def test_a_group_without_a_calibration_of_its_own_is_marked() -> None:
    text = read([make_snapshot(make_columns(name_hosts(2)))])
    assert list_lines(text, PREFIX + "group_info") == [
        '{calibration="own",detector="hosts",instance="host-00000:9100"} 1.0',
        '{calibration="pooled",detector="hosts",instance="host-00001:9100"} 1.0',
    ]


def test_history_has_the_same_samples() -> None:
    columns = make_columns(name_hosts(9), STATES, ("cpu", 'lo"\\ad'))
    snapshot = make_snapshot(columns)
    families = [*collect_fleets([snapshot])]
    assert generate_latest(Families(families)).decode() == read([snapshot])


def test_metrics_can_be_chosen_by_name() -> None:
    text = read([make_snapshot(make_columns(name_hosts(2)))], chosen=[PREFIX + "score"])
    assert [family.name for family in parse_text(text)] == [PREFIX + "score"]


# Incidents


def group(zone: str, host: str) -> Labels:
    return (("instance", host), ("zone", zone))


HOSTS = [group(zone, f"{zone}{number}") for zone in ("a", "b") for number in range(4)]


def open_incidents(scope: tuple[str, ...], *hosts: Labels, **features: float) -> IncidentColumns:
    """What is exposed while events of these hosts are open."""
    rules = IncidentRules("hosts", features=2, scope=scope)
    book = IncidentBook(rules)
    events = [
        make_event(AT + row, features=features or None, **dict(labels))
        for row, labels in enumerate(hosts)
    ]
    changes = book.update(AT + 60, events, watched=survey_groups(HOSTS, rules))
    begun = {incident.scope: 3 for incident in changes.began}
    return IncidentColumns(book.open_incidents, begun, scope=scope)


def incident_lines(incidents: IncidentColumns, states: Sequence[State] = (State.OK,)) -> list[str]:
    text = read([make_snapshot(make_columns(HOSTS, states), incidents)])
    prefix = PREFIX + "incident"
    return [line.removeprefix(PREFIX) for line in text.splitlines() if line.startswith(prefix)]


def test_an_incident_is_exposed_with_what_an_alert_names() -> None:
    incidents = open_incidents((), *HOSTS[4:6], cpu=0.75, load=0.25)
    assert incident_lines(incidents) == [
        'incident_open{detector="hosts"} 1.0',
        'incident_groups{detector="hosts"} 2.0',
        'incident_groups_share{detector="hosts"} 0.25',
        'incident_since_timestamp_seconds{detector="hosts"} 1.7e+09',
        'incident_feature_share{detector="hosts",feature_name="cpu"} 0.75',
        'incident_feature_share{detector="hosts",feature_name="load"} 0.25',
        'incident_first_group_info{detector="hosts",instance="b0",zone="b"} 1.0',
        'incident_common_labels_info{detector="hosts",zone="b"} 1.0',
        'incidents_total{detector="hosts"} 3.0',
    ]


def test_every_scope_is_exposed_from_the_start() -> None:
    assert incident_lines(open_incidents(("zone",), HOSTS[5])) == [
        'incident_open{detector="hosts",zone="a"} 0.0',
        'incident_open{detector="hosts",zone="b"} 1.0',
        'incident_groups{detector="hosts",zone="b"} 1.0',
        'incident_groups_share{detector="hosts",zone="b"} 0.25',
        'incident_since_timestamp_seconds{detector="hosts",zone="b"} 1.7e+09',
        'incident_feature_share{detector="hosts",feature_name="cpu",zone="b"} 1.0',
        'incident_first_group_info{detector="hosts",instance="b1",zone="b"} 1.0',
        'incidents_total{detector="hosts",zone="a"} 0.0',
        'incidents_total{detector="hosts",zone="b"} 3.0',
    ]


def test_the_incidents_of_a_detector_without_groups_yet_are_counted_from_0() -> None:
    text = read([make_snapshot(make_columns(()))])
    assert list_lines(text, PREFIX + "incidents_total") == ['{detector="hosts"} 0.0']
    assert list_lines(text, PREFIX + "incident_open") == []


def test_nothing_is_known_of_incidents_while_no_group_has_a_score() -> None:
    lines = incident_lines(open_incidents((), HOSTS[0]), (State.BLIND, State.WARMING))
    assert lines == ['incidents_total{detector="hosts"} 3.0']


def test_of_several_open_incidents_the_one_with_the_most_groups_is_named() -> None:
    rules = IncidentRules("hosts", features=2)
    book, watched = IncidentBook(rules), survey_groups(HOSTS, rules)
    book.update(AT, [make_event(AT, **dict(HOSTS[0]))], watched=watched)
    late = [make_event(AT + 3600, **dict(labels)) for labels in HOSTS[4:7]]
    book.update(AT + 3600, late, watched=watched)
    lines = incident_lines(IncidentColumns(book.open_incidents))
    assert 'incident_open{detector="hosts"} 2.0' in lines
    assert 'incident_groups{detector="hosts"} 4.0' in lines
    assert 'incident_since_timestamp_seconds{detector="hosts"} 1.7000036e+09' in lines
    assert 'incident_first_group_info{detector="hosts",instance="b0",zone="b"} 1.0' in lines


def test_no_metric_of_incidents_has_an_id() -> None:
    for spec in INCIDENT_METRICS:
        assert set(spec.labels) <= {"feature_name"}


# Which features are exposed


def count_series(text: str) -> int:
    return sum(line.startswith(PREFIX + "feature_") for line in text.splitlines())


@pytest.mark.parametrize("limit", [0, 5, 6, 20, 100, 1000])
def test_the_series_of_features_are_limited_and_those_left_out_are_counted(limit: int) -> None:
    columns = make_columns(name_hosts(20), STATES, ("cpu", "load", "disk"))
    whole = count_series(read([make_snapshot(columns)]))
    text = read([make_snapshot(columns, limit=limit)])
    assert count_series(text) <= limit
    left_out = whole - count_series(text)
    line = f'{{detector="hosts"}} {float(left_out)}'
    assert list_lines(text, "promad_feature_series_left_out") == [line]


def test_groups_with_an_open_event_come_first_then_those_with_the_largest_scores() -> None:
    columns = make_columns(name_hosts(6))
    columns = replace(
        columns,
        threshold=np.ones(6),
        score=np.array([0.1, 0.9, 0.5, 0.8, 0.2, np.nan]),
        anomalous_since=np.array([np.nan, np.nan, np.nan, np.nan, AT, np.nan]),
        features=np.ones((6, 2, 6)),
    )
    nothing = np.zeros(6, np.bool_)
    assert choose_features(columns, 36, nothing).rows.tolist() == [1, 3, 4]
    assert choose_features(columns, 35, nothing).rows.tolist() == [1, 4]


def test_groups_that_are_shown_stay_until_others_are_clearly_worse() -> None:
    columns = make_columns(name_hosts(3))
    columns = replace(columns, threshold=np.ones(3), features=np.ones((3, 2, 6)))
    shown = np.array([True, False, False])
    for score, expected in ((0.7, [0]), (0.8, [1])):
        now = replace(columns, score=np.array([0.5, score, 0.1]))
        assert choose_features(now, 12, shown).rows.tolist() == expected


def test_a_limit_below_one_groups_features_shows_those_that_contribute_most() -> None:
    columns = make_columns(name_hosts(2), features=("cpu", "load", "disk"))
    features = np.ones((2, 3, 6))
    features[:, :, CONTRIBUTION] = [0.2, 0.5, 0.3]
    columns = replace(columns, features=features)
    choice = choose_features(columns, 12, np.zeros(2, np.bool_))
    assert np.isfinite(choice.features).any(axis=2).tolist() == [[False, True, True]]


def test_largest_deviations_count_as_series_of_features() -> None:
    columns = make_columns(name_hosts(2))
    columns = replace(columns, features=np.ones((2, 2, 6)), largest=np.ones((2, 2, 4)))
    nothing = np.zeros(2, np.bool_)
    for limit, rows, left_out in ((40, 2, 0), (39, 1, 20), (20, 1, 20)):
        choice = choose_features(columns, limit, nothing)
        assert (len(choice.rows), choice.left_out) == (rows, left_out)
    few = choose_features(columns, 15, nothing)
    assert np.isfinite(few.largest).all(axis=2).sum() == 1
    assert few.left_out == 30


def test_exported_history_has_as_many_series_of_features_as_a_scrape() -> None:
    snapshot = make_snapshot(make_columns(name_hosts(20)), limit=60)
    target = ScrapeTarget("hosts", PREFIX, {"job": "promad"})
    of_features = [
        sample.labels
        for family in target.collect(snapshot)
        for sample in family.samples
        if "feature_name" in sample.labels and "instance" in sample.labels
    ]
    assert 0 < len(of_features) <= 60


# What is sent


PARTS = [b"", b"a" * 70_000, b"b", "ü".encode() * 100, b"", bytes(range(256)) * 300, b"c\n"]


def test_parts_compressed_by_themselves_make_one_gzip_member() -> None:
    whole = b"".join(join_compressed(map(Segment, PARTS)))
    reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert reader.decompress(whole) == b"".join(PARTS)
    assert (reader.eof, reader.unused_data) == (True, b"")


@pytest.mark.parametrize("split", [0, 3, len(PARTS)])
def test_parts_joined_beforehand_make_the_same_gzip_member(split: int) -> None:
    segments = [*map(Segment, PARTS)]
    whole = b"".join(join_compressed([Joined(segments[:split]), *segments[split:]]))
    assert gzip.decompress(whole) == b"".join(PARTS)


def test_what_is_the_same_for_every_scraper_is_merged_once_per_tick(monkeypatch: Any) -> None:
    merged: list[bool] = []

    def merge(shots: Any, openmetrics: bool, chosen: Any = ()) -> list[Segment]:
        merged.append(openmetrics)
        return merge_fleets(shots, openmetrics, chosen)

    monkeypatch.setattr(metrics, "merge_fleets", merge)
    answers, (first, second) = ScrapeAnswers(CollectorRegistry()), make_two_ticks()
    for shot in (first, first, first, second, second):
        answers.answer([shot], request_metrics())
    assert len(merged) == 2
    answers.answer([second], request_metrics(accept="application/openmetrics-text"))
    assert merged[2:] == [True]


def make_two_ticks() -> list[AnySnapshot]:
    hosts = name_hosts(3)
    return [make_snapshot(make_columns(hosts, seed=seed)) for seed in (1, 2)]


def request_metrics(accept: str = "") -> Request:
    headers = [(b"accept", accept.encode())]
    return Request({"type": "http", "path": "/metrics", "query_string": b"", "headers": headers})


def test_large_parts_are_sent_as_they_are() -> None:
    gathered = gather_parts(PARTS)
    assert b"".join(gathered) == b"".join(PARTS)
    assert [part for part in gathered if len(part) > 65_536] == [PARTS[1], PARTS[5]]
    assert gathered[0] is PARTS[1]


@dataclass
class Served:
    """A fleet behind a server."""

    url: str
    registry: CollectorRegistry
    snapshots: list[AnySnapshot]

    def get(self, accept: str = "", encoding: str = "identity") -> requests.Response:
        headers = {"Accept": accept, "Accept-Encoding": encoding}
        return requests.get(f"{self.url}/metrics", headers=headers, timeout=5)


@pytest.fixture
def served() -> Iterator[Served]:
    registry = CollectorRegistry()
    Gauge("one", "The first.", registry=registry).set(1)
    columns = make_columns(name_hosts(500), STATES, ("cpu", "ü"))
    snapshots: list[AnySnapshot] = [make_snapshot(columns)]
    detector: Any = SimpleNamespace(snapshot=lambda: snapshots[0])
    bound = listen("127.0.0.1", 0)
    server = WebServer(build_app(registry, lambda: [detector], lambda: True), bound)
    server.start()
    yield Served(f"http://127.0.0.1:{bound.getsockname()[1]}", registry, snapshots)
    server.stop()


def test_a_scrape_gets_the_fleet_and_the_registry(served: Served) -> None:
    answer = served.get()
    assert answer.text == read(served.snapshots) + generate_latest(served.registry).decode()
    assert answer.headers["content-type"].startswith("text/plain")
    assert len(answer.content) > 65_536


def test_openmetrics_ends_once(served: Served) -> None:
    text = served.get(OPENMETRICS).text
    expected = read(served.snapshots, openmetrics=True)
    assert text == expected + generate_openmetrics(served.registry).decode()
    assert text.count("# EOF") == 1
    assert [*parse_openmetrics(text)]


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_a_compressed_scrape_has_the_same_content(served: Served, accept: str) -> None:
    with requests.get(
        f"{served.url}/metrics",
        headers={"Accept": accept, "Accept-Encoding": "gzip"},
        stream=True,
        timeout=5,
    ) as answer:
        body = answer.raw.read(decode_content=False)
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(body) == served.get(accept).content


def test_what_a_tick_rendered_is_sent_to_every_scraper(served: Served) -> None:
    rendered = served.snapshots[0].rendered  # type: ignore[union-attr]
    served.get(encoding="gzip")
    deflated = {spec: segment.deflated for spec, segment in rendered.families.items()}
    served.get(encoding="gzip")
    assert served.snapshots[0].rendered is rendered  # type: ignore[union-attr]
    for spec, segment in rendered.families.items():
        assert segment.deflated is deflated[spec]


def test_foundare_never_escaped_by_dots(served: Served) -> None:
    answer = served.get(f"{OPENMETRICS}; escaping=dots")
    assert "escaping=underscores" in answer.headers["content-type"]
    assert f"# TYPE {PREFIX}score gauge" in answer.text
