"""The event log: what is written is there again, once, whatever happens to the process."""

import json
import sqlite3
import threading
from contextlib import closing
from dataclasses import asdict, replace

import pytest
import structlog

from promad.errors import DataError
from promad.events import event_log as eventlog
from promad.events.event_log import EventLog, EventRow, open_event_log
from promad.events.incident_book import IncidentBook
from tests.support.incidents import OVER_AFTER, RULES, enter, make_event, report
from tests.support.statuses import ANOMALOUS, JUDGED

EVENT = ANOMALOUS.event


@pytest.fixture
def log(tmp_path):
    opened = EventLog(tmp_path / "events.db")
    yield opened
    opened.close()


def event(start, end=None, group="web"):
    peak = replace(JUDGED, at=float(start))
    return replace(
        EVENT, group=group, start=float(start), flagged_at=start + 1.0, end=end, peak=peak
    )


def record(log, *events):
    for each in events:
        log.record(each, "b1", each.end or each.start)


def test_an_event_comes_back_as_it_was_and_survives_the_process(log):
    nan = replace(JUDGED, features=(replace(JUDGED.features[0], observed=float("nan")),))
    record(log, replace(event(10.0), peak=nan))
    log.close()
    again = EventLog(log.path)
    (found,) = again.find()
    again.close()
    assert repr(found.event) == repr(replace(event(10.0), peak=nan))
    assert (found.bundle, found.end_reason, found.feedback) == ("b1", None, None)


def test_an_event_that_grew_and_ended_is_one_event(log):
    record(log, event(10.0))
    record(log, replace(event(10.0), peak=replace(JUDGED, score=30.0)))
    record(log, event(10.0, end=40.0))
    (found,) = log.find()
    assert (found.event.end, found.end_reason) == (40.0, "quiet")


def test_what_a_person_said_of_an_event_outlasts_its_growth(log):
    record(log, event(10.0))
    with sqlite3.connect(log.path) as other:
        other.execute("UPDATE events SET feedback = 'false', comment = 'a deployment'")
    other.close()
    record(log, event(10.0, end=20.0))
    assert (log.find()[0].feedback, log.find()[0].comment) == ("false", "a deployment")


def test_events_are_found_by_id(log):
    record(log, event(10.0), event(20.0))
    assert log.event(event(20.0).id).event.start == 20.0
    assert log.event("nothing") is None


@pytest.mark.parametrize(
    ("wanted", "starts"),
    [
        ({}, [30, 20, 10]),
        ({"group": "db"}, [20]),
        ({"is_open": True}, [30]),
        ({"is_open": False}, [20, 10]),
        ({"start": 16.0}, [30, 20]),
        ({"end": 20.0}, [20, 10]),
        ({"start": 15.0, "end": 15.0}, [10]),
        ({"limit": 2}, [30, 20]),
    ],
)
def test_events_are_chosen_by_group_time_and_whether_they_are_open(log, wanted, starts):
    record(log, event(10, end=15.0), event(20, end=25.0, group="db"), event(30))
    assert [found.event.start for found in log.find(**wanted)] == starts


@pytest.mark.parametrize("text", ["web' OR '1'='1", 'web" OR 1=1 --', "'; DROP TABLE events; --"])
def test_sql_in_a_name_is_a_name(log, text):
    record(log, event(10, group="web"), event(20, group=text))
    assert [found.event.group for found in log.find(group=text)] == [text]
    assert log.find(below=(99.0, text), limit=9) == log.find()
    assert log.find_incidents(group=text) == []
    assert len(log.find()) == 2


def test_pages_follow_one_another_without_gap_or_repetition(log):
    record(
        log, *(event(start, group=f"g{number}") for start in (10, 20, 30) for number in range(3))
    )
    seen, below = [], None
    while page := log.find(below=below, limit=2):
        seen += [found.event.id for found in page]
        below = (page[-1].event.start, page[-1].event.id)
    assert seen == [found.event.id for found in log.find()]
    assert len(set(seen)) == 9


def test_open_events_are_closed_at_their_newest_anomalous_sample_but_for_some(log):
    record(log, event(10.0), event(20.0))
    log.record(event(10.0), "b1", 17.0)
    assert log.close_open("unwatched", event(20.0).group, event(20.0).id) == 1
    (closed,) = log.find(is_open=False)
    assert (closed.event.start, closed.event.end, closed.end_reason) == (10.0, 17.0, "unwatched")


def test_closing_the_events_of_one_group_leaves_those_of_another_open(log):
    other = replace(event(10.0), group="db")
    record(log, event(10.0), other)
    assert set(log.groups_with_open_events()) == {event(10.0).group, "db"}
    assert log.close_open("unwatched", event(10.0).group) == 1
    assert log.groups_with_open_events() == ["db"]


def test_events_that_ended_long_ago_are_forgotten_and_open_ones_never(log):
    record(log, event(10, end=15.0), event(20, end=25.0), event(5))
    assert log.prune(20.0) == 1
    assert [found.event.start for found in log.find()] == [20, 5]


def test_the_last_memory_of_each_group_is_kept(log):
    assert log.memory("web") is None
    log.remember("web", "b1", {"a": 1})
    log.remember("web", "b2", {"a": [2.5, None]})
    log.remember("db", "b1", {})
    assert log.memory("web") == ("b2", '{"a": [2.5, null]}')


def test_several_threads_may_use_it_at_once(log):
    def work(number):
        for start in range(20):
            record(log, event(start, group=f"g{number}"))
            log.find()

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log.find(limit=1000)) == 80


def test_migrations_are_done_once_each_and_in_order(log, monkeypatch):
    record(log, event(10.0))
    log.close()
    more = "ALTER TABLE events ADD COLUMN silenced INTEGER NOT NULL DEFAULT 7;"
    monkeypatch.setattr(eventlog, "MIGRATIONS", (*eventlog.MIGRATIONS, more))
    for _ in range(2):
        EventLog(log.path).close()
    with sqlite3.connect(log.path) as raw:
        assert raw.execute("SELECT silenced FROM events").fetchall() == [(7,)]
        assert raw.execute("PRAGMA user_version").fetchone() == (len(eventlog.MIGRATIONS),)
    raw.close()


def test_a_migration_that_fails_changes_nothing(log, monkeypatch):
    log.close()
    broken = "CREATE TABLE more (a); CREATE TABLE more (a);"
    monkeypatch.setattr(eventlog, "MIGRATIONS", (*eventlog.MIGRATIONS, broken))
    with pytest.raises(DataError, match="already exists"):
        EventLog(log.path)
    with sqlite3.connect(log.path) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (len(eventlog.MIGRATIONS) - 1,)
        assert not raw.execute("SELECT * FROM sqlite_schema WHERE name = 'more'").fetchall()
    raw.close()


def test_a_file_of_a_newer_promad_is_left_alone(log):
    log.close()
    with sqlite3.connect(log.path) as raw:
        raw.execute("PRAGMA user_version = 9")
    raw.close()
    with pytest.raises(DataError, match="is of version 9, this promad knows 4 — use the newer"):
        open_event_log(log.path)


def test_a_damaged_file_is_moved_aside_and_not_lost(tmp_path):
    path = tmp_path / "events.db"
    path.write_bytes(b"no database at all, but somebody's words" * 30)
    log, aside = open_event_log(path)
    assert aside.read_bytes().startswith(b"no database")
    assert log.find() == []
    log.close()


def test_a_file_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"events.db: cannot be used \("):
        EventLog(tmp_path / "file" / "events.db")


def test_a_closed_log_says_so(log):
    log.close()
    with pytest.raises(DataError, match="cannot be used"):
        log.find()


def test_a_log_that_was_deleted_begins_anew_and_says_so(log):
    record(log, event(10.0))
    log.path.unlink()
    with structlog.testing.capture_logs() as lines:
        record(log, event(20.0))
    assert [found.event.start for found in log.find()] == [20.0]
    assert [line["event"] for line in lines] == ["event log deleted; starting a new one"]
    assert log.path.exists()


def test_a_file_of_the_first_version_is_read_and_continued(tmp_path):
    """As daemons have written it; its columns are a contract."""
    path = tmp_path / "events.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(
            """
            CREATE TABLE events (
                id TEXT PRIMARY KEY, group_name TEXT NOT NULL, start REAL NOT NULL,
                flagged_at REAL NOT NULL, last_above REAL NOT NULL, ended REAL, end_reason TEXT,
                peak_ratio REAL NOT NULL, peak TEXT NOT NULL, bundle TEXT NOT NULL,
                acknowledged_at REAL, feedback TEXT, comment TEXT
            ) STRICT;
            CREATE TABLE memories (
                group_name TEXT PRIMARY KEY, bundle TEXT NOT NULL, content TEXT NOT NULL
            ) STRICT;
            PRAGMA user_version = 1;
            """
        )
        peak = json.dumps(asdict(event(10.0).peak))
        row = ("abc", "web", 10.0, 11.0, 12.0, None, None, 2.0, peak, "b1", None, None, None)
        database.execute(f"INSERT INTO events VALUES ({', '.join('?' * 13)})", row)
        database.execute("INSERT INTO memories VALUES ('web', 'b1', '{}')")
        database.commit()
    with closing(EventLog(path)) as log:
        assert log.find(group="web")[0].event.start == 10.0
        assert log.find(group="web")[0].event.labels == ()
        assert log.find_incidents() == []
        assert log.memory("web")[0] == "b1"
        assert log.close_open("bundle", "web") == 1
        record(log, event(20.0))


# Incidents and their members


def record_incidents(log, *events):
    """Enter whole events into a book, and write every change; the book."""
    book = IncidentBook(RULES)
    for sample, changes in zip(report(events), enter(book, report(events)), strict=True):
        rows = [
            EventRow(each, each.end or each.peak_at)
            for each in (*sample.began, *sample.grew, *sample.ended)
        ]
        log.record_many("b1", rows, incidents=changes.incidents)
    return book


PAIR = [
    make_event(0, 600, 3.0, {"cpu": 0.5, "load": 0.5}, instance="a", rack="x"),
    make_event(60, 1200, instance="b", rack="x"),
]
LATER = make_event(7200, None, instance="c", rack="y")


def test_an_incident_comes_back_as_it_was_after_every_change(log):
    book = IncidentBook(RULES)
    for changes in enter(book, report([*PAIR, LATER])):
        for incident in changes.incidents:
            log.record_incident(incident, "b1")
            assert log.incident(incident.id).incident == incident
    assert [each.incident.start for each in log.find_incidents()] == [7200.0, 0.0]
    assert log.incident("nothing") is None


def test_the_labels_of_an_event_come_back(log):
    record_incidents(log, *PAIR)
    assert log.find(limit=1)[0].event.labels == (("instance", "b"), ("rack", "x"))


@pytest.mark.parametrize(
    ("wanted", "starts"),
    [
        ({}, [7200, 0]),
        ({"group": PAIR[1].group}, [0]),
        ({"group": "nobody"}, []),
        ({"is_open": True}, [7200]),
        ({"is_open": False}, [0]),
        ({"start": 1201.0}, [7200]),
        ({"end": 7199.0}, [0]),
        ({"limit": 1}, [7200]),
    ],
)
def test_incidents_are_chosen_by_group_time_and_whether_they_are_open(log, wanted, starts):
    record_incidents(log, *PAIR, LATER)
    assert [found.incident.start for found in log.find_incidents(**wanted)] == starts


def test_pages_of_incidents_follow_one_another(log):
    record_incidents(
        log, *(make_event(7200.0 * n, 7200.0 * n + 60, instance="a") for n in range(5))
    )
    seen, below = [], None
    while page := log.find_incidents(below=below, limit=2):
        seen += [found.incident.start for found in page]
        below = (page[-1].incident.start, page[-1].incident.id)
    assert seen == [28800, 21600, 14400, 7200, 0]


def test_the_incident_of_each_event_is_known(log):
    again = make_event(600 + OVER_AFTER + 30, 1200, instance="a", rack="x")
    book = record_incidents(log, *PAIR, again)
    (found,) = log.find_incidents()
    assert {log.incident_of(each.id) for each in (*PAIR, again)} == {found.incident.id}
    assert log.incident_of("nothing") is None
    assert book.open_incidents == ()


def test_incidents_that_nobody_continued_are_closed_at_their_newest_anomalous_sample(log):
    book = IncidentBook(RULES)
    (first,) = book.update(30, began=[make_event(0, instance="a")]).began
    (second,) = book.update(7230, began=[make_event(7200, instance="b")]).began
    log.record_many("b1", [EventRow(make_event(0, instance="a"), 900.0)], incidents=[first, second])
    assert log.close_open_incidents(but=[second.id]) == 1
    assert log.incident(first.id).incident.end == 900.0
    assert log.incident(second.id).incident.end is None
    assert log.close_open_incidents() == 1
    assert log.incident(second.id).incident.end == second.peak.peak_at
    assert log.find_incidents(is_open=True) == []


def test_an_incident_is_forgotten_as_a_whole(log):
    record_incidents(log, *PAIR, LATER)
    assert log.prune(900.0) == 0
    assert log.prune(1201.0) == 2
    assert [found.incident.start for found in log.find_incidents()] == [7200.0]
    with sqlite3.connect(log.path) as raw:
        for table in ("incident_members", "incident_events"):
            assert raw.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)
    raw.close()


def test_a_tick_is_one_transaction_and_writes_only_members_that_changed(log):
    book = IncidentBook(RULES)
    events = [make_event(0, instance=f"h{n}") for n in range(1000)]
    changes = book.update(30, began=events)
    statements = []
    log._connection.set_trace_callback(statements.append)
    rows = [EventRow(each, 30.0) for each in events]
    log.record_many("b1", rows, {each.group: {} for each in events}, changes.incidents)
    assert sum(each.startswith("BEGIN") for each in statements) == 1
    assert sum(each.startswith("INSERT INTO incident_members") for each in statements) == 1000
    statements.clear()
    changes = book.update(60, grew=[make_event(0, ratio=9.0, instance="h7")])
    log.record_many("b1", incidents=changes.incidents)
    assert sum(each.startswith("INSERT INTO incident_members") for each in statements) == 1
    (found,) = log.find_incidents()
    assert (found.incident.groups, found.incident.peak.peak_ratio) == (1000, 9.0)


def test_an_incident_is_whole_in_a_log_that_begins_anew(log):
    book = IncidentBook(RULES)
    log.record_many("b1", incidents=book.update(30, began=[make_event(0, instance="a")]).began)
    log.path.unlink()
    changes = book.update(60, began=[make_event(30, instance="b")])
    log.record_many("b1", incidents=changes.incidents)
    assert log.find_incidents()[0].incident == changes.incidents[0]


def test_nothing_of_a_tick_is_written_if_something_cannot_be(log):
    (incident,) = IncidentBook(RULES).update(30, began=[make_event(0, instance="a")]).began
    broken = replace(make_event(0, instance="a"), flagged_at=None)
    with pytest.raises(DataError, match="cannot be used"):
        log.record_many("b1", [EventRow(broken, 0.0)], incidents=[incident])
    assert log.find_incidents() == []
    log.record_many("b1", incidents=[incident])
    assert log.find_incidents()[0].incident == incident
