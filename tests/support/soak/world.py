"""`run_soak`: the real daemon through many ticks of a world in which everything goes wrong."""

from __future__ import annotations

import io
import os
import resource
import statistics
import sys
import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from itertools import pairwise
from pathlib import Path

import structlog

from promad.bundle import BundleStore, load_detector
from promad.cli.logs import LogFormat, LogLevel, configure_logging
from promad.detection.daemon import Daemon
from promad.detection.detector_building import CATCH_UP_SAMPLES
from promad.events.event_log import LoggedEvent
from promad.events.events import AnomalyEvent
from promad.events.verdict import Verdict
from promad.prometheus import retrying
from promad.stages.detect import detect
from tests.support.soak.answers import Answers
from tests.support.soak.clock import DrivenClock
from tests.support.soak.faults import Reply
from tests.support.soak.oracle import FILLED_MAY_DECIDE, SCORED, Oracle
from tests.support.soak.plan import Fault, Plan, plan_tick
from tests.support.soak.server import FaultServer
from tests.support.soak.training import train_bundles
from tests.support.soak.truth import START, STEP, Gap, Truth

PATIENCE_SECONDS = 20.0
"""Real seconds after which a tick is taken to hang."""
ANOMALY_EVERY = 200
_LATENCY = 5.0
_FELT_SAMPLES = 72
"""How long a moving average over ten samples feels an anomaly here, and its end takes."""
_SCRAPE_EVERY = 10
_API_EVERY = 50
_MEASURE_EVERY = 25
_MOST_RSS_GROWTH = 5.0
_FEWEST_MEASUREMENTS = 400
"""A shorter run shows how a process warms up, not whether it grows."""
_FIRST_SLEEP_SECONDS = 0.01
_PATHS = (
    *("/", "/-/healthy", "/-/ready"),
    *(f"/api/v1/{name}" for name in ("events", "groups", "history")),
)


@dataclass(frozen=True)
class Resources:
    """What the process uses, once a tick has ended."""

    megabytes: float
    descriptors: int
    threads: int


@dataclass
class Outcome:
    """What happened, and every claim that did not hold."""

    ticks: int = 0
    seconds: float = 0.0
    states: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    resources: list[Resources] = field(default_factory=list)
    tick_seconds: array[float] = field(default_factory=lambda: array("d"))
    scrape_seconds: array[float] = field(default_factory=lambda: array("d"))
    log_lines: int = 0
    log_bytes: int = 0
    events: int = 0

    def compare(self, read: Callable[[Resources], float]) -> tuple[float, float]:
        """The medians of a figure in the second tenth of the run and in the last."""
        part = max(1, len(self.resources) // 10)
        figures = [read(each) for each in self.resources]
        return statistics.median(figures[part : 2 * part]), statistics.median(figures[-part:])


class Log(io.StringIO):
    """Standard error: counts lines, keeps the last ones, and fails when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = 0
        self.bytes = 0
        self.is_broken = False
        self.last: deque[str] = deque(maxlen=60)

    def write(self, text: str) -> int:
        if self.is_broken:
            raise BrokenPipeError
        self.bytes += len(text)
        self.lines += text.count("\n")
        self.last.append(text.strip())
        return len(text)


@contextmanager
def collect_log() -> Iterator[Log]:
    """promad's own logging into a `Log`."""
    log, before = Log(), sys.stderr
    sys.stderr = log
    configure_logging(LogLevel.INFO, LogFormat.LOGFMT)
    try:
        yield log
    finally:
        sys.stderr = before
        structlog.reset_defaults()


@contextmanager
def sleep_less() -> Iterator[None]:
    """Repeat lost requests without the pause that a busy server deserves."""
    before = retrying._FIRST_SLEEP_SECONDS
    retrying._FIRST_SLEEP_SECONDS = _FIRST_SLEEP_SECONDS
    try:
        yield
    finally:
        retrying._FIRST_SLEEP_SECONDS = before


def run_soak(
    directory: Path,
    ticks: int,
    *,
    seed: int = 1,
    first: int = 0,
    filled: int = FILLED_MAY_DECIDE,
    progress: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Run the ticks `first` to `first + ticks` of a seed's plan, in a directory of its own."""
    with sleep_less(), collect_log() as log:
        world = World(directory, log, filled)
        began = time.perf_counter()
        try:
            world.start_daemon()
            for tick in range(first, first + ticks):
                world.tick(plan_tick(seed, tick))
                progress(tick - first)
            world.check_end()
        except TimeoutError as error:
            world.complain(str(error))
        finally:
            world.close()
        world.outcome.seconds = time.perf_counter() - began
        world.outcome.log_lines, world.outcome.log_bytes = log.lines, log.bytes
    return world.outcome


class World:
    """Server, clock, daemon and oracle; `tick` is one tick with what the plan has for it."""

    def __init__(self, directory: Path, log: Log, filled: int) -> None:
        self.outcome = Outcome()
        self._log = log
        self._truth = Truth()
        self._clock = DrivenClock(START + 600 * STEP + 1.0)
        self._server = FaultServer(self._answer)
        self._config, self._bundles = train_bundles(directory, self._server.url)
        detector = load_detector(BundleStore.of(self._config).open_current())
        kept = detector.samples_needed + CATCH_UP_SAMPLES
        self._oracle = Oracle(
            self._truth, detector.length, detector.length + _FELT_SAMPLES, kept, filled
        )
        self._answers = Answers(self._truth, self._oracle)
        self._stack = ExitStack()
        self._faults: list[tuple[Fault, int]] = []
        self._ended: list[AnomalyEvent] = []
        self._until: dict[str, int] = {}
        self._calm_from = 0
        self._skipped = 0.0
        self._slow_for = 0.0
        self._happened: list[tuple[float, str]] = []
        self._connection: HTTPConnection | None = None

    # the daemon

    def start_daemon(self) -> None:
        """Start it as `promad detect` does, and wait for its first tick."""
        self._oracle.forget()
        self._oracle.begin(self._find_newest())
        self._daemon: Daemon = self._stack.enter_context(
            detect([self._config], self._clock, "127.0.0.1", 0, self._observe)
        )
        self._connection = HTTPConnection("127.0.0.1", self._daemon.port, timeout=5)
        self._skipped = 0.0
        self._due = self._clock.await_loop(PATIENCE_SECONDS)

    def close(self) -> None:
        self._disk_is_full(False)
        if self._connection is not None:
            self._connection.close()
        self._stack.close()
        self._server.stop()

    def _observe(self, _: Verdict, ended: AnomalyEvent | None) -> None:
        if ended is not None:
            self._ended.append(ended)

    def _answer(self, form: Mapping[str, str]) -> Reply:
        """The answer to a request, which takes a while at a slow tick."""
        seconds, self._slow_for = self._slow_for, 0.0
        self._clock.pass_time(seconds)
        return self._answers(form)

    def complain(self, what: str) -> None:
        self.outcome.violations.append(f"tick {self.outcome.ticks}: {what}")

    def _note(self, what: str, happened: bool = True) -> None:
        if happened:
            self.outcome.faults[what] += 1
            self._happened.append((self._oracle.newest, what))

    def _find_newest(self) -> float:
        return (self._clock.now() - _LATENCY) // STEP * STEP

    # one tick

    def tick(self, plan: Plan) -> None:
        """Let a tick happen, and hold what it published to what it was given."""
        number = self.outcome.ticks
        self._end_what_is_over(number)
        began = time.perf_counter()
        expected = self._due + STEP
        jumped = self._begin_faults(plan, number)
        self._clock.pass_time(max(0.0, self._due - self._clock.now()))
        if "clock back" in jumped or "clock forward" in jumped or "clock far forward" in jumped:
            self._clock.step(jumped["step"])
        self._oracle.begin(self._find_newest())
        self._slow_for = jumped.get("slow", 0.0)
        self._clock.release()
        due, before = self._clock.await_loop(PATIENCE_SECONDS), self._due
        self.outcome.tick_seconds.append(time.perf_counter() - began)
        self._due = due
        self.outcome.ticks += 1
        self._check_state()
        self._check_schedule(before, expected, bool(jumped))
        self._reload_if_planned(plan)
        self._look_from_outside(number)

    def _end_what_is_over(self, number: int) -> None:
        self._faults = [(fault, until) for fault, until in self._faults if until > number]
        if not any(fault.kind == "refuses connections" for fault, _ in self._faults):
            self._server.start()
        for name in [name for name, until in self._until.items() if until <= number]:
            del self._until[name]
            self._end(name)
        self._answers.faults = tuple(fault for fault, _ in self._faults)

    def _end(self, name: str) -> None:
        if name == "disk full":
            self._disk_is_full(False)
        if name == "log reader gone":
            self._log.is_broken = False

    def _begin_faults(self, plan: Plan, number: int) -> dict[str, float]:
        """Begin what is planned; seconds by which the clock is to be wrong, by why."""
        if plan.fault is not None:
            self._begin_fault(plan.fault, number)
        jumped: dict[str, float] = {}
        for name in plan.events:
            happened = self._begin(name, plan.amount, number, jumped)
            self._note(name, happened)
        return jumped

    def _begin_fault(self, fault: Fault, number: int) -> None:
        self._note(fault.kind)
        newest = self._find_newest() + STEP
        if fault.kind == "refuses connections":
            self._server.stop()
        elif fault.kind == "vanishes":
            for alias in fault.aliases:
                self._truth.gaps[alias].append(Gap(newest - STEP, newest + fault.ticks * STEP))
            return
        self._faults.append((fault, number + fault.ticks))
        self._answers.faults = tuple(each for each, _ in self._faults)

    def _begin(self, name: str, amount: float, number: int, jumped: dict[str, float]) -> bool:
        """Begin one of the things that are not the server's; whether it could."""
        calm = number >= self._calm_from
        if name == "anomaly":
            return calm and self._begin_anomaly(amount, number)
        if name == "disk full" and name not in self._until:
            self._disk_is_full(True)
            self._until[name] = number + 1 + int(40 * amount)
        elif name == "log reader gone":
            self._log.is_broken = True
            self._until[name] = number + 1 + int(40 * amount)
        elif name == "slow tick":
            jumped["slow"] = STEP * (0.5 + 4 * amount)
        elif name.startswith("clock"):
            if not calm or "step" in jumped:
                return False
            sizes = {"clock forward": 30, "clock far forward": 3000, "clock back": -50}
            jumped["step"] = sizes[name] * STEP * (0.01 + amount)
            jumped[name] = 1.0
        elif name == "daemon restart":
            if "disk full" in self._until:  # promad detect refuses to start
                return False
            self._restart_daemon()
        return True

    def _begin_anomaly(self, amount: float, number: int) -> bool:
        start = self._find_newest() + 3 * STEP
        samples = 8 + int(12 * amount)
        self._truth.anomalies.append((start, start + samples * STEP))
        self._calm_from = number + ANOMALY_EVERY
        return True

    def _restart_daemon(self) -> None:
        self._connection_closed()
        self._stack.close()
        self._stack = ExitStack()
        self.start_daemon()

    def _connection_closed(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _reload_if_planned(self, plan: Plan) -> None:
        store = BundleStore.of(self._config)
        if "disk full" in self._until:
            return
        if "other bundle" in plan.events:
            store.promote(next(each for each in self._bundles if each != store.current_id()))
            self._reload("other bundle")
        if "damaged reload" in plan.events:
            self._reload_damaged(store, plan.amount)
        if "reload" in plan.events:
            self._reload("reload")

    def _reload(self, name: str) -> None:
        before = self._daemon.served()[0]
        self._oracle.begin(self._find_newest())
        self._daemon.reload(lambda: [self._config])
        if self._daemon.served()[0] is before:
            self.complain(f"{name}: not reloaded: {self._log.last[-1]}")
        self._due = self._clock.await_loop(PATIENCE_SECONDS)
        self._check_state()

    def _reload_damaged(self, store: BundleStore, amount: float) -> None:
        """Damage one byte of the current bundle: the reload fails and changes nothing."""
        files = sorted(each for each in (store.root / str(store.current_id())).rglob("*.*"))
        path = files[int(amount * len(files))]
        content, before = path.read_bytes(), self._daemon.served()[0]
        path.write_bytes(content[:-9])
        self._daemon.reload(lambda: [self._config])
        path.write_bytes(content)
        if self._daemon.served()[0] is not before:
            self.complain(f"took a bundle whose {path.name} is damaged")

    def _disk_is_full(self, full: bool) -> None:
        """Let every write to a file fail, or none."""
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0 if full else most, most))

    # the claims

    def _check_state(self) -> None:
        snapshot = self._daemon.served()[0].snapshot()
        verdict = snapshot.groups[0].verdict
        self.outcome.states[str(verdict.state)] += 1
        allowed = self._oracle.permits()
        kind = "exact" if len(allowed) == 1 else "scored or not" if len(allowed) == 2 else "any"
        self.outcome.checked[kind] += 1
        if verdict.state not in allowed:
            names = " or ".join(sorted(map(str, allowed)))
            self.complain(
                f"{verdict.state} instead of {names} ({verdict.why}), score {verdict.score}, "
                f"faults {[fault.kind for fault, _ in self._faults]}, before {self._happened[-6:]}"
            )
        if verdict.state in SCORED and abs(verdict.at - self._oracle.newest) > 1e-6:
            self.complain(f"the score is {self._oracle.newest - verdict.at} s old")

    def _check_schedule(self, before: float, expected: float, disturbed: bool) -> None:
        """The next tick is the next multiple of the interval, and each that is left out counted."""
        now = self._clock.now()
        if self._due % STEP or not now <= self._due <= now + STEP:
            self.complain(f"next tick at {self._due}, now {now}")
        if not disturbed and self._due != expected:
            self.complain(f"next tick at {self._due}, expected {expected}")
        self._skipped += max(0.0, (self._due - before) / STEP - 1)

    def _look_from_outside(self, number: int) -> None:
        if number % _SCRAPE_EVERY == 0:
            self._check_metrics()
        if number % _API_EVERY == 0:
            for path in _PATHS:
                status, _ = self._get(path)
                if status >= 400 and not (path == "/-/ready" and status == 503):
                    self.complain(f"{path} answers {status}")
        if number % _MEASURE_EVERY == 0:
            self.outcome.resources.append(measure_resources())

    def _get(self, path: str) -> tuple[int, bytes]:
        assert self._connection is not None
        began = time.perf_counter()
        try:
            self._connection.request("GET", path)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            self._connection.close()
            self.complain(f"{path}: {error!r}")
            return 0, b""
        self.outcome.scrape_seconds.append(time.perf_counter() - began)
        return response.status, body

    def _check_metrics(self) -> None:
        status, body = self._get("/metrics")
        if status != 200:
            self.complain(f"/metrics answers {status}")
            return
        text = body.decode()
        skipped, failed = (
            _read_sample(text, name)
            for name in ("promad_ticks_skipped_total", "promad_tick_failures_total")
        )
        if skipped != self._skipped:
            self.complain(f"{skipped:g} ticks counted as skipped, {self._skipped:g} were")
            self._skipped = skipped
        if failed:
            self.complain(f"{failed:g} ticks failed: {list(self._log.last)[-3:]}")
        state = self._daemon.served()[0].snapshot().groups[0].verdict.state
        if f'state="{state}"}} 1.0' not in text:
            self.complain(f"/metrics lacks the state {state}")
        if (state in SCORED) != ("\nanomaly_detector_is_anomaly_detected" in text):
            self.complain(f"/metrics has a flag in state {state}, or lacks it")

    def check_end(self) -> None:
        """Claims about the whole run."""
        self._disk_is_full(False)
        self._check_events(self._daemon.served()[0].events.find(limit=100_000))
        self._check_flatness()

    def _check_events(self, logged: Sequence[LoggedEvent]) -> None:
        self.outcome.events = len(logged)
        ended = {each.id: each for each in self._ended}
        in_log = {each.event.id: each for each in logged}
        for id_ in ended.keys() - in_log.keys():
            self.complain(f"event {id_} at {ended[id_].start:.0f} is not in the log")
        for id_ in ended.keys() & in_log.keys():
            if in_log[id_].event.end != ended[id_].end:
                self.complain(
                    f"event {id_} ended at {ended[id_].end} is in the log with end "
                    f"{in_log[id_].event.end}"
                )
        if sum(each.event.end is None for each in logged) > 1:
            self.complain("more than one event of one group is open")
        spans = sorted((each.event.start, each.event.end or each.event.peak.at) for each in logged)
        for (_, end), (start, _) in pairwise(spans):
            if start <= end:
                self.complain(f"two events of one time, {start:.0f}")
        self._check_anomalies(spans)

    def _check_anomalies(self, spans: Sequence[tuple[float, float]]) -> None:
        """Each anomaly that was seen without a fault is one event."""
        memory = self._oracle.memory
        if not self._oracle.filled:  # values that are filled in may look like an anomaly
            self._check_causes(spans)
        for start, end in self._truth.anomalies:
            times = {start + STEP * n for n in range(round((end - start) / STEP) + 1)}
            if not times <= self._oracle.sure:
                continue
            found = [span for span in spans if span[0] <= end + memory * STEP and span[1] >= start]
            self.outcome.checked["anomalies"] += 1
            if len(found) != 1:
                self.complain(f"{len(found)} events for the anomaly at {start:.0f}")

    def _check_causes(self, spans: Sequence[tuple[float, float]]) -> None:
        """Each event is that of an anomaly or of values that are not true."""
        lasting = self._oracle.memory * STEP
        causes = [*self._truth.anomalies, *self._oracle.strange]
        for first, last in spans:
            if not any(start <= last and first <= end + lasting for start, end in causes):
                near = [what for at, what in self._happened if first - lasting <= at <= last]
                self.complain(f"event from {first:.0f} to {last:.0f} without an anomaly: {near}")

    def _check_flatness(self) -> None:
        if len(self.outcome.resources) < _FEWEST_MEASUREMENTS:
            return
        before, after = self.outcome.compare(lambda each: each.megabytes)
        if after - before > _MOST_RSS_GROWTH:
            self.complain(f"memory grew from {before:.1f} to {after:.1f} MB")
        for name in ("descriptors", "threads"):
            before, after = self.outcome.compare(lambda each: float(getattr(each, name)))  # noqa: B023
            if after > before + 2:
                self.complain(f"{name} grew from {before:g} to {after:g}")


def measure_resources() -> Resources:
    """What this process uses now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    megabytes = pages * resource.getpagesize() / 2**20
    return Resources(megabytes, len(os.listdir("/proc/self/fd")), threading.active_count())


def _read_sample(text: str, name: str) -> float:
    for line in text.splitlines():
        if line.startswith(name):
            return float(line.rpartition(" ")[2])
    return float("nan")
