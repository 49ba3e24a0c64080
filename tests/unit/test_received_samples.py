"""Received samples on the grid: what a poll would have seen, late ones, ended series, outages."""

from __future__ import annotations

import math
import struct
import threading
import time
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promad.data.groups import Grouping, Labels
from promad.errors import PrometheusError, UnreachableError
from promad.prometheus.groups.columns import Column
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.groups.polling import GroupPoller
from promad.prometheus.groups.rows import GroupRows
from promad.prometheus.groups.sources import Columns
from promad.prometheus.received.columns import ReceivedColumns
from promad.prometheus.received.polling import ReceivedPoller, make_store
from promad.prometheus.received.store import (
    FUTURE_SECONDS,
    OUT_OF_ORDER_SECONDS,
    Placed,
    SampleStore,
    StoreOptions,
)

STEP = 15.0
STALE_AFTER = 60.0
START = 1_795_000_005.0
assert START % STEP == 0
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
QUERIES = {"cpu": "cpu", "load": "load"}


def at(sample: float) -> float:
    """Unix seconds of a grid time."""
    return START + STEP * sample


class Missed:
    """Stands for a server: what it answers for each query and group at all times."""

    clock_offset = None

    def __init__(self, rows: GroupRows, error: PrometheusError | None = None) -> None:
        self.rows = rows
        self.error = error
        self.asked = 0
        self.answers: dict[tuple[str, str], float] = {}

    def note_missing(self) -> None:
        pass

    def read(self, start: float, last_value: Mapping[str, float], held: np.ndarray) -> Columns:
        self.asked += 1
        if self.error is not None:
            return Columns(dict.fromkeys(QUERIES, self.error), {})
        columns = {}
        for alias in QUERIES:
            wanted = {host: value for (name, host), value in self.answers.items() if name == alias}
            numbers = [self.rows.find_number((("instance", host),)) for host in wanted]
            found = self.rows.find_rows(np.array(numbers, np.int64), start)
            values = np.full((len(self.rows.groups), SAMPLES), np.nan)
            values[found] = np.array(list(wanted.values()))[:, np.newaxis]
            columns[alias] = Column(0, values, None)
        return Columns({}, columns)


SAMPLES = 12


class World:
    """A store, what reads it, and a server that has what was missed."""

    def __init__(self, error: PrometheusError | None = None, by: tuple[str, ...] = ("instance",)):
        self.options = PollOptions(
            QUERIES, Grouping(by), STEP, SAMPLES, STALE_AFTER, max_groups=50, forget_after=1e9
        )
        self.store = make_store(self.options)
        self.caught_up: list[bool] = []

        def make(rows: GroupRows) -> ReceivedColumns:
            self.missed = Missed(rows, error)
            return ReceivedColumns(
                self.store,
                self.options,
                rows,
                self.missed,
                lambda failures: self.caught_up.append(not failures),
            )

        self.poller = GroupPoller(None, self.options, make)  # type: ignore[arg-type]

    def send(self, alias: str, host: str, *samples: tuple[float, float], now: float) -> Placed:
        """Send samples of (grid time, value); `now` is a grid time."""
        number = self.store.add(alias, {"instance": host})
        assert number is not None
        times = [round(1000 * at(place)) for place, _ in samples]
        return self.store.place(
            np.full(len(samples), number),
            np.array(times, np.int64),
            np.array([value for _, value in samples]),
            at(now),
        )

    def values(self, sample: int, host: str, alias: str = "cpu") -> list[float]:
        """The newest values of a feature after a poll at a grid time."""
        poll = self.poller.poll(at(sample))
        assert poll.failures == {}
        row = poll.frame.groups.index((("instance", host),))
        column = poll.frame.features.index(alias)
        return list(poll.frame.values[row, :, column])


def naive(samples: Sequence[tuple[float, float]], sample: int) -> float:
    """What an instant query returns at a grid time, by samples of (grid time, value)."""
    seen = [(place, value) for place, value in samples if place <= sample]
    if not seen:
        return math.nan
    place, value = max(seen, key=lambda each: each[0])
    return value if STEP * (sample - place) <= STALE_AFTER else math.nan


times = st.integers(-100, 2000).map(lambda hundredths: hundredths / 100)
sent = st.lists(
    st.tuples(times, st.one_of(st.floats(-5, 5), st.just(STALE))),
    max_size=30,
    unique_by=lambda each: each[0],
)


@settings(max_examples=60, deadline=None)
@given(samples=sent, data=st.data())
def test_each_value_is_what_an_instant_query_returns(
    samples: list[tuple[float, float]], data: st.DataObject
) -> None:
    world = World()
    world.missed.answers = {}
    order = data.draw(st.permutations(samples))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=3)))
    number = world.store.add("cpu", {"instance": "a"})
    first, last = 6, 20
    for begin, end in zip([0, *cuts], [*cuts, len(order)], strict=True):
        if part := order[begin:end]:
            world.send("cpu", "a", *part, now=20)
            world.send("cpu", "a", *part[::-1], now=20)  # a retry changes nothing
        world.store.read(place(first), place(last))
    slots = world.store.read(place(first), place(last))
    expected = [naive(samples, sample) for sample in range(first, last + 1)]
    assert np.array_equal(slots.values[:, number], expected, equal_nan=True)


def place(sample: int) -> int:
    """The number of a grid time."""
    return round(at(sample) / STEP)


def test_a_value_belongs_to_the_first_grid_time_that_is_not_before_it() -> None:
    world = World()
    world.send("cpu", "a", (0.2, 1.0), (0.9, 2.0), (1.0, 3.0), (1.01, 4.0), now=2)
    world.poller.poll(at(2))
    found = world.values(3, "a")
    assert found[-4:] == [pytest.approx(np.nan, nan_ok=True), 3.0, 4.0, 4.0]


def test_the_last_value_is_repeated_until_it_is_too_old() -> None:
    world = World()
    world.send("cpu", "a", (0, 1.0), (1, 2.0), now=1)
    world.send("load", "b", *((each, 1.0) for each in range(9)), now=9)
    assert world.values(9, "a")[-9:] == [2.0] * 5 + [pytest.approx(np.nan, nan_ok=True)] * 4


def test_a_staleness_marker_ends_a_value_at_once() -> None:
    world = World()
    world.send("cpu", "a", (0, 1.0), (1, 2.0), (2, STALE), now=2)
    found = world.values(3, "a")
    assert found[-3] == 2.0
    assert np.isnan(found[-2:]).all()


def test_late_samples_are_placed_and_reported_as_corrections() -> None:
    world = World()
    for sample in range(5):
        world.send("cpu", "a", (sample, float(sample)), now=sample)
        world.send("cpu", "b", *([] if sample == 3 else [(sample, 1.0)]), now=sample)
        poll = world.poller.poll(at(sample))
    assert np.isnan(poll.corrected_from).all()
    world.send("cpu", "b", (3, 9.0), now=5)
    world.send("cpu", "a", (5, 5.0), now=5)
    poll = world.poller.poll(at(5))
    rows = {dict(labels)["instance"]: row for row, labels in enumerate(poll.frame.groups)}
    assert poll.corrected_from[rows["b"]] == at(3)
    assert np.isnan(poll.corrected_from[rows["a"]])
    assert poll.frame.values[rows["b"], -3:, 0].tolist() == [9.0, 1.0, 1.0]


def test_what_is_too_old_or_lies_in_the_future_is_counted() -> None:
    world = World()
    late, ahead = OUT_OF_ORDER_SECONDS / STEP, FUTURE_SECONDS / STEP
    samples = [(-late - 1.01, 1.0), (-late, 2.0), (ahead, 3.0), (ahead + 0.1, 4.0)]
    assert world.send("cpu", "a", *samples, now=0) == Placed(2, 1, 1)


def test_a_sample_ahead_of_the_clock_does_not_displace_others() -> None:
    world = World()
    world.send("cpu", "a", *((n, float(n)) for n in range(-8, 1)), now=0)
    world.send("cpu", "a", (FUTURE_SECONDS / STEP, 99.0), now=0)
    assert world.values(0, "a")[-9:] == [float(n) for n in range(-8, 1)]


def test_several_series_of_a_group_make_it_ambiguous_while_both_have_a_value() -> None:
    world = World()
    for sample in range(4):
        for replica in ("1", "2"):
            labels = {"instance": "a", "replica": replica}
            number = world.store.add("cpu", labels)
            value = STALE if (replica, sample) == ("2", 3) else 1.0
            world.store.place(
                np.array([number]),
                np.array([round(1000 * at(sample))]),
                np.array([value]),
                at(sample),
            )
        poll = world.poller.poll(at(sample))
        assert list(poll.ambiguous.values()) == (["cpu"] if sample < 3 else [])
    assert poll.frame.values[0, -1, 0] == 1.0
    assert np.isnan(poll.frame.values[0, -2, 0])


def test_an_infinity_is_no_value_as_with_polling() -> None:
    world = World()
    world.send("cpu", "a", (0, 1.0), (1, math.inf), (2, -math.inf), (3, 2.0), now=3)
    found = world.values(3, "a")
    assert (found[-4], found[-1]) == (1.0, 2.0)
    assert np.isnan(found[-3:-1]).all()


def test_of_two_samples_at_one_time_in_a_request_the_first_counts() -> None:
    world = World()
    world.send("cpu", "a", (0, 1.0), (1, 5.0), (1, 7.0), now=1)
    assert world.values(1, "a")[-1] == 5.0


@pytest.mark.parametrize("step", [15.0, 300.0, 900.0])
def test_a_rule_that_is_evaluated_a_whole_step_before_the_grid_time_is_no_gap(step: float) -> None:
    """Whatever `stale_after` is: Prometheus chooses when a rule group is evaluated."""
    store = SampleStore(StoreOptions(("cpu",), Grouping(("instance",)), step, STALE_AFTER, 10))
    number = store.add("cpu", {"instance": "a"})
    newest = math.floor(START / step)
    for slot in range(newest - 2, newest + 1):
        late = round(1000 * (slot - 1) * step + 1)
        store.place(np.array([number]), np.array([late]), np.ones(1), (slot - 1) * step)
        assert store.read(slot, slot).known[0, 0]


def test_with_a_long_step_the_queries_fail_only_once_a_sample_is_missing() -> None:
    options = PollOptions(
        QUERIES,
        Grouping(("instance",)),
        600.0,
        SAMPLES,
        STALE_AFTER,
        max_groups=5,
        forget_after=1e9,
    )
    store = make_store(options)
    poller = GroupPoller(
        None,  # type: ignore[arg-type]
        options,
        lambda rows: ReceivedColumns(store, options, rows, Missed(rows)),
    )
    number = store.add("cpu", {"instance": "a"})
    failures = []
    for tick in range(3_000_000, 3_000_006):
        if tick < 3_000_004:
            sent = np.array([round(1000 * 600 * tick) - 500_000])
            store.place(np.array([number]), sent, np.ones(1), 600.0 * tick)
        failures.append(bool(poller.poll(600.0 * tick).failures))
    assert failures == [False, False, False, False, True, True]


def test_a_clock_that_is_set_back_does_not_keep_samples_out() -> None:
    world = World()
    for sample in range(1000, 1004):
        world.send("cpu", "a", (sample, 1.0), now=sample)
        world.poller.poll(at(sample))
    asked = world.missed.asked
    for sample in range(4):
        world.send("cpu", "a", (sample, 2.0), now=sample)
        assert world.values(sample, "a")[-1] == 2.0
    assert world.missed.asked > asked
    for sample in range(4, 10):
        failures = world.poller.poll(at(sample)).failures
    assert failures["cpu"].reason == "not_received"


# What was missed


def test_what_was_missed_is_queried_at_the_start_and_once_samples_arrive() -> None:
    world = World()
    world.missed.answers = {("cpu", "a"): 7.0}
    assert world.values(0, "a") == [7.0] * SAMPLES
    world.send("cpu", "a", (1, 1.0), now=1)
    assert world.values(1, "a") == [7.0] * (SAMPLES - 1) + [1.0]
    assert world.missed.asked == 2
    for sample in range(2, 6):
        world.send("cpu", "a", (sample, 1.0), now=sample)
        assert world.values(sample, "a")[-sample:] == [1.0] * sample
    assert (world.missed.asked, world.caught_up) == (2, [True, True])


def test_for_a_minute_samples_are_queried_until_some_arrive() -> None:
    world = World()
    world.missed.answers = {("cpu", "a"): 7.0}
    for sample in range(10):
        poll = world.poller.poll(at(sample))
        newest = poll.frame.values[0, -1, 0]
        assert newest == 7.0 if sample < 4 else np.isnan(newest)
        assert bool(poll.failures) == (sample > 3 + STALE_AFTER / STEP)
    assert world.missed.asked == 4


def test_received_values_take_the_place_of_queried_ones() -> None:
    world = World()
    world.send("cpu", "a", (-3, 1.0), (-2, STALE), (0, 2.0), now=0)
    world.missed.answers = {("cpu", "a"): 7.0, ("load", "b"): 3.0}
    found = world.values(0, "a")
    assert found[-5:-3] == [7.0, 1.0]
    assert np.isnan(found[-3:-1]).all()
    assert found[-1] == 2.0
    assert world.values(0, "b", "load") == [3.0] * SAMPLES


def test_an_outage_of_the_sender_makes_every_query_fail_and_is_caught_up_with() -> None:
    world = World()
    for sample in range(3):
        world.send("cpu", "a", (sample, 1.0), now=sample)
        world.poller.poll(at(sample))
    for sample in range(3, 7):
        assert world.poller.poll(at(sample)).failures == {}  # the last value is not too old
    for sample in range(7, 10):
        failures = world.poller.poll(at(sample)).failures
        assert failures.keys() == QUERIES.keys()
        assert failures["cpu"].reason == "not_received"
    assert str(failures["cpu"]) == (
        "query cpu: no samples were received by remote write for more than 1m — "
        "check the recording rules and remote_write of the sender"
    )
    asked = world.missed.asked
    world.missed.answers = {("cpu", "a"): 5.0}
    world.send("cpu", "a", (10, 2.0), now=10)
    found = world.values(10, "a")
    assert world.missed.asked == asked + 1
    assert found[-1] == 2.0
    assert 5.0 in found
    world.send("cpu", "a", (11, 2.0), now=11)
    world.poller.poll(at(11))
    assert world.missed.asked == asked + 1


def test_without_any_sample_and_server_every_query_fails() -> None:
    world = World(UnreachableError("gone"))
    failures = world.poller.poll(at(0)).failures
    assert failures["load"].fault == "no samples were received by remote write"
    assert world.caught_up == [False]


def test_a_server_that_does_not_answer_is_asked_again_after_a_minute() -> None:
    world = World(UnreachableError("gone"))
    for sample in range(9):
        world.send("cpu", "a", (sample, 1.0), now=sample)
        assert world.poller.poll(at(sample)).failures == {}
    assert world.missed.asked == 3  # at 0, 60 and 120 s
    world.missed.error = None
    for sample in range(9, 14):
        world.send("cpu", "a", (sample, 1.0), now=sample)
        world.poller.poll(at(sample))
    assert world.missed.asked == 4


def test_a_long_pause_between_polls_is_queried() -> None:
    world = World()
    for sample in (0, 1, 2, 100):
        world.send("cpu", "a", (sample, 1.0), now=sample)
        world.poller.poll(at(sample))
    assert world.missed.asked == 2


# Series that come and go


def test_series_that_ended_are_forgotten_and_the_others_stay() -> None:
    store = SampleStore(StoreOptions(("cpu",), Grouping(("instance",)), STEP, STALE_AFTER, 1000))
    poller_rows = GroupRows(Grouping(("instance",)))
    for sample in range(0, 400, 10):
        names = [f"pod-{sample}-{number}" for number in range(20)] + ["lasting"]
        numbers = [store.add("cpu", {"instance": name}) for name in names]
        store.place(
            np.array(numbers),
            np.full(len(names), round(1000 * at(sample))),
            np.arange(len(names), dtype=float),
            at(sample),
        )
        store.forget_ended()
        slots = store.read(place(sample), place(sample))
        groups: dict[Labels, float] = {
            slots.groups[n]: slots.values[0, n] for n in np.flatnonzero(slots.known[0])
        }
        assert groups == {(("instance", name),): float(n) for n, name in enumerate(names)}
        poller_rows.find_rows(
            np.array([poller_rows.find_number(each) for each in groups]), at(sample)
        )
    assert slots.values.shape[1] < 200


def new_store(most_series: int) -> SampleStore:
    return SampleStore(
        StoreOptions(("cpu",), Grouping(("instance",)), STEP, STALE_AFTER, most_series)
    )


def fill(
    store: SampleStore, prefix: str, count: int, sample: float, now: float
) -> list[int | None]:
    """Send one sample of each of so many new series, as far as there is room."""
    numbers = [store.add("cpu", {"instance": f"{prefix}-{n}"}) for n in range(count)]
    held = np.array([number for number in numbers if number is not None], np.int64)
    times = np.full(len(held), round(1000 * at(sample)))
    store.place(held, times, np.ones(len(held)), at(now))
    return numbers


def test_a_store_that_is_full_has_room_again_once_any_series_has_ended() -> None:
    store = new_store(50)
    fill(store, "lasting", 40, 0, now=0)
    fill(store, "short", 10, 0, now=0)
    fill(store, "lasting", 40, 40, now=40)
    assert fill(store, "new", 1, 40, now=40) == [None]
    assert store.forget_ended()
    assert fill(store, "new", 1, 40, now=40) == [40]


def test_series_without_any_sample_that_can_be_used_make_room() -> None:
    store = new_store(100)
    fill(store, "old", 100, 0, now=1000)
    assert store.newest is None
    assert store.forget_ended()
    assert fill(store, "new", 3, 1000, now=1000) == [0, 1, 2]


def test_the_memory_of_series_that_ended_is_released() -> None:
    store = new_store(100_000)
    fill(store, "short", 10_000, 0, now=0)
    big = store._times.nbytes
    fill(store, "lasting", 100, 100, now=100)
    assert store.forget_ended()
    assert store._times.nbytes < big / 20
    slots = store.read(place(100), place(100))
    assert slots.known.sum() == slots.values.sum() == 100
    assert len(store.options.grouping._known) == 0


def test_no_more_series_are_held_than_groups_can_be_watched() -> None:
    store = SampleStore(StoreOptions(("cpu",), Grouping(("instance",)), STEP, STALE_AFTER, 3))
    found = [store.add("cpu", {"instance": f"{n}"}) for n in range(5)]
    assert found == [0, 1, 2, None, None]
    assert store.add("cpu", {"instance": "1"}) == 1
    assert store.add("other", {"instance": "1"}) is None


# Waiting


def test_samples_may_arrive_while_others_are_read() -> None:
    world, hosts, last = World(), [f"host-{n}" for n in range(40)], 18

    def send(alias: str) -> None:
        for sample in range(last + 1):
            for host in hosts:
                world.send(alias, host, (sample, float(sample)), now=last)

    threads = [threading.Thread(target=send, args=[alias]) for alias in QUERIES]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        newest = world.store.newest
        if newest is not None:
            world.poller.poll(math.floor(newest / STEP) * STEP)
    poll = world.poller.poll(at(last))
    assert len(poll.frame.groups) == len(hosts)
    expected = np.arange(last - SAMPLES + 1.0, last + 1)[np.newaxis, :, np.newaxis]
    assert (poll.frame.values == expected).all()


@pytest.fixture
def waiting() -> World:
    world = World()
    for host in ("a", "b"):
        world.send("cpu", host, (0, 1.0), now=0)
    return world


def wait(world: World, seconds: float, stop: threading.Event | None = None) -> float:
    """How long a tick waits for its samples."""
    began = time.monotonic()
    world.store.wait(place(1), seconds, stop or threading.Event())
    return time.monotonic() - began


def test_a_tick_waits_until_every_series_has_a_new_sample(waiting: World) -> None:
    waiting.send("cpu", "a", (0.7, 1.0), (0.8, 1.0), now=1)
    sender = threading.Timer(0.1, lambda: waiting.send("cpu", "b", (1, 1.0), now=1))
    sender.start()
    assert 0.05 < wait(waiting, 20.0) < 15.0
    assert wait(waiting, 20.0) < 10.0


def test_a_tick_does_not_wait_for_ever(waiting: World) -> None:
    waiting.send("cpu", "a", (1, 1.0), now=1)
    assert 0.05 <= wait(waiting, 0.05) < 10.0


def test_a_tick_does_not_wait_once_the_daemon_stops_or_the_sender_has_stopped(
    waiting: World,
) -> None:
    stop = threading.Event()
    stop.set()
    assert wait(waiting, 30.0, stop) < 10.0
    assert wait(World(), 30.0) < 10.0


# The only group


def test_one_group_gets_the_samples_of_its_queries() -> None:
    world = World(by=())
    poller = ReceivedPoller(world.poller, SAMPLES)
    number = {alias: world.store.add(alias, {"job": "x"}) for alias in QUERIES}
    for sample in range(4):
        world.store.place(
            np.array(list(number.values())),
            np.full(2, round(1000 * at(sample))),
            np.array([1.0 + sample, 0.0]),
            at(sample),
        )
        poll = poller.poll(at(sample))
        assert poll.corrected_from == (at(0) if sample == 1 else None)
    assert poll.frame.groups == ((),)
    assert poll.frame.values[0, -4:].tolist() == [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]]
    assert (poll.failures, poll.corrected_from) == ({}, None)
    assert poll.newest == {"cpu": at(3), "load": at(3)}
    held = poll.frame.values.copy()
    poller.poll(at(6))
    assert np.array_equal(poll.frame.values, held, equal_nan=True)


def test_several_series_of_the_only_group_are_a_failure_of_the_query() -> None:
    world = World(by=())
    numbers = [world.store.add("cpu", {"instance": host}) for host in ("a", "b")]
    for sample in range(3):
        world.store.place(
            np.array(numbers), np.full(2, round(1000 * at(sample))), np.ones(2), at(sample)
        )
        poll = ReceivedPoller(world.poller, SAMPLES).poll(at(sample))
    assert poll.failures["cpu"].reason == "several_series"
    assert poll.failures.keys() == {"cpu"}
