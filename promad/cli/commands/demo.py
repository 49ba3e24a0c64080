"""`promad demo`."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from promad.cli.commands.run import run_stages
from promad.cli.extras import require_training
from promad.cli.logs import LogFormat, LogLevel, configure_logging
from promad.cli.options import ListenOption, parse_listen_address
from promad.cli.output import format_count, format_shares, format_url, print_lines
from promad.clock import RealClock
from promad.config.durations import format_duration, format_instant
from promad.config.model_defaults import DEFAULT_MODEL, PRESETS
from promad.errors import PromadError

if TYPE_CHECKING:
    from promad.detection.daemon import Daemon
    from promad.events.events import AnomalyEvent
    from promad.events.verdict import State, Verdict
    from promad.simulation.fleet.faults import Fault
    from promad.stages.demo import Outcome, Referee
    from promad.stages.fleet_demo import FleetOutcome

Address = tuple[str, int | None]
"""Interface and port to listen on, as `parse_listen_address` returns them."""

_LINE_EVERY_SECONDS = 300.0


def demo(
    until_detected: Annotated[
        bool,
        typer.Option(
            "--until-detected", metavar="", help="Exit once the incident is detected and over."
        ),
    ] = False,
    prometheus: Annotated[
        str | None,
        typer.Option("--prometheus", metavar="URL", help="Use this Prometheus server instead."),
    ] = None,
    incident: Annotated[
        str,
        typer.Option("--incident", metavar="NAME", help="slow_disk, memory_leak or retry_storm."),
    ] = "slow_disk",
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Seed of the simulated host.")
    ] = 7,
    hosts: Annotated[
        int | None,
        typer.Option(
            "--hosts",
            metavar="N",
            help="Simulate a fleet: a bad deployment on 7 of the hosts and one broken disk.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help=f"Model to train, see config.yaml. Default: {DEFAULT_MODEL}.",
        ),
    ] = None,
    artifacts: Annotated[
        Path | None,
        typer.Option("--artifacts", metavar="DIR", help="Keep data and bundles in this directory."),
    ] = None,
    listen_address: ListenOption = None,
) -> None:
    """Train on a simulated host and detect an incident on it. Needs no Prometheus.

    With --hosts, train on a fleet of simulated hosts and detect two incidents on it.

    With --prometheus, train on the last day of a real server and monitor it until Ctrl-C.
    """
    if prometheus is not None and until_detected:
        raise typer.BadParameter("--until-detected needs the simulated host; omit --prometheus")
    if hosts is not None and prometheus is not None:
        raise typer.BadParameter("--hosts needs the simulation; omit --prometheus")
    model = model or DEFAULT_MODEL
    if model not in PRESETS:
        raise typer.BadParameter(f"unknown model {model}; use one of {', '.join(PRESETS)}")
    require_training("demo", [model])
    address = parse_listen_address(listen_address)
    with ExitStack() as stack:
        folder = artifacts or Path(stack.enter_context(TemporaryDirectory(prefix="promad-demo-")))
        if prometheus is not None:
            _demonstrate_on_server(prometheus, model, folder.resolve(), address)
        elif hosts is not None:
            _demonstrate_on_fleet(hosts, seed, model, folder.resolve(), address, until_detected)
        else:
            _demonstrate_on_simulation(
                incident, seed, model, folder.resolve(), address, until_detected
            )


def _demonstrate_on_simulation(
    incident: str, seed: int, model: str, artifacts: Path, address: Address, until_detected: bool
) -> None:
    """The stages on a simulated host, then the incident; returns by itself only if asked to.

    Raises:
        PromadError: if the incident was to be detected and was not.
    """
    from promad.simulation.incidents import SCENARIOS
    from promad.stages.demo import SPEED, Referee, start_simulation
    from promad.stages.detect import detect

    if incident not in SCENARIOS:
        raise typer.BadParameter(f"unknown incident {incident}; use one of {', '.join(SCENARIOS)}")
    configure_logging(LogLevel.ERROR, LogFormat.LOGFMT)
    with start_simulation(time.time(), artifacts, incident, seed, model) as simulation:
        print_lines([f"demo: simulated host at {simulation.config.prometheus_url}"])
        run_stages(simulation.config, simulation.time.now)
        stop = _stop_on_signals()
        referee = (
            Referee(simulation.incident, stop) if until_detected else Referee(simulation.incident)
        )
        comment = _Commentator(referee)
        with detect([simulation.config], simulation.time.run(), *address, comment) as daemon:
            print_lines(
                [
                    f"detect: open {format_url(address[0], daemon.port)} "
                    f"(time runs {SPEED:g} times as fast)",
                    f"  {incident} starts at {format_instant(simulation.incident.start)}: "
                    f"{simulation.incident.scenario.story}",
                ]
            )
            stop.wait()
    print_lines(_format_outcome(referee.outcome()))
    if until_detected and referee.outcome().event is None:
        raise PromadError(f"demo: {incident} was not detected")


def _demonstrate_on_fleet(
    hosts: int, seed: int, model: str, artifacts: Path, address: Address, until_detected: bool
) -> None:
    """The stages on a simulated fleet, then two faults; returns by itself only if asked to.

    Raises:
        PromadError: if a fault was to be detected and was not.
    """
    from promad.stages.demo import SPEED
    from promad.stages.detect import detect
    from promad.stages.fleet_demo import (
        FEWEST_HOSTS,
        MOST_HOSTS,
        judge_incidents,
        start_fleet_simulation,
    )

    if not FEWEST_HOSTS <= hosts <= MOST_HOSTS:
        raise typer.BadParameter(f"--hosts must be {FEWEST_HOSTS} to {MOST_HOSTS}, not {hosts}")
    configure_logging(LogLevel.ERROR, LogFormat.LOGFMT)
    with start_fleet_simulation(time.time(), artifacts, hosts, seed, model) as simulation:
        print_lines([f"demo: {hosts} simulated hosts at {simulation.config.prometheus_url}"])
        run_stages(simulation.config, simulation.time.now)
        stop = _stop_on_signals()
        clock = simulation.time.run()
        with detect([simulation.config], clock, *address) as daemon:
            url = format_url(address[0], daemon.port)
            print_lines([f"detect: open {url} (time runs {SPEED:g} times as fast)"])
            print_lines(_announce_fault(fault) for fault in simulation.faults)
            watch = _FleetWatch(daemon)
            last = max(fault.end for fault in simulation.faults) + _FLEET_PATIENCE_SECONDS
            while not stop.wait(1.0):
                print_lines(watch.report())
                if until_detected and clock.now() > last:
                    break
            (served,) = daemon.served()
            outcome = judge_incidents(served.events, simulation.faults)
    print_lines(_format_fleet_outcome(outcome))
    missed = [each.fault.name for each in outcome.faults if not each.incidents]
    if until_detected and missed:
        raise PromadError(f"demo: {', '.join(missed)} not detected")


_FLEET_PATIENCE_SECONDS = 600.0


def _announce_fault(fault: Fault) -> str:
    where = fault.hosts[0] if len(fault.hosts) == 1 else format_count(len(fault.hosts), "host")
    return (
        f"  {fault.name} starts at {format_instant(fault.start)} on {where}: {fault.scenario.story}"
    )


class _FleetWatch:
    """Prints a line when incidents begin, grow or end, and every five minutes."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._shown: dict[str, tuple[int, bool]] = {}
        self._printed_at = float("-inf")

    def report(self) -> Iterator[str]:
        """What is new since the last call."""
        from promad.events.explanation import incident_paragraph

        for served in self._daemon.served():
            snapshot = served.snapshot()
            states = [status.verdict for status in snapshot.groups]
            if not states:
                continue
            at = max(verdict.at for verdict in states)
            for logged in reversed(served.events.find_incidents()):
                incident = logged.incident
                now = (incident.groups, incident.end is None)
                if self._shown.get(incident.id) != now:
                    self._shown[incident.id] = now
                    word = "open" if incident.end is None else "over"
                    yield f"  {format_instant(at)}  incident {word}: {incident_paragraph(incident)}"
            if at - self._printed_at >= _LINE_EVERY_SECONDS:
                self._printed_at = at
                counts = Counter(str(verdict.state) for verdict in states)
                shown = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
                yield f"  {format_instant(at)}  hosts: {shown}"


def _format_fleet_outcome(outcome: FleetOutcome) -> Iterator[str]:
    """Each fault with its incidents, then the incidents that no fault explains."""
    for each in outcome.faults:
        delay = each.delay_seconds
        if delay is None:
            yield f"demo: {each.fault.name} not detected"
            continue
        told = format_count(len(each.incidents), "incident")
        hosts = format_count(len(each.fault.hosts), "host")
        yield (
            f"demo: {each.fault.name} detected {format_duration(delay)} after its first effect, "
            f"{told}, {each.hosts_found} of {hosts}; first: {each.incidents[0].first.group}"
        )
    yield f"demo: {format_count(len(outcome.others), 'other incident')}"


def _demonstrate_on_server(url: str, model: str, artifacts: Path, address: Address) -> None:
    """The stages on the last day of a real server, then detection until a signal ends it."""
    from promad.stages.demo import build_real_config
    from promad.stages.detect import detect

    config = build_real_config(url, artifacts, time.time(), model)
    print_lines([f"demo: {', '.join(config.features)} of {url}"])
    run_stages(config, force=True)  # a demonstration: the gate only reports
    stop = _stop_on_signals()
    with detect([config], RealClock(), *address) as daemon:
        print_lines([f"detect: open {format_url(address[0], daemon.port)}"])
        stop.wait()


def _stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


class _Commentator:
    """Prints a line at each change of state and every five minutes; the referee sees it all."""

    def __init__(self, referee: Referee) -> None:
        self._referee = referee
        self._printed_at = float("-inf")
        self._state: State | None = None

    def __call__(self, verdict: Verdict, ended: AnomalyEvent | None) -> None:
        changed = verdict.state is not self._state
        if changed or verdict.at - self._printed_at >= _LINE_EVERY_SECONDS:
            print_lines([_format_verdict(verdict)])
            self._state, self._printed_at = verdict.state, verdict.at
        self._referee.observe(verdict, ended)


def _format_verdict(verdict: Verdict) -> str:
    top = format_shares((view.name, view.contribution) for view in verdict.top_features)
    return (
        f"  {format_instant(verdict.at)}  {verdict.state:<9}  "
        f"score {verdict.score_ratio or 0:6.2f}  threshold 1  {top}"
    )


def _format_outcome(outcome: Outcome) -> Iterator[str]:
    """How the replay ended, beside the ground truth."""
    event, delay = outcome.event, outcome.delay_seconds
    for alarm in outcome.false_alarms:
        yield f"  false alarm at {format_instant(alarm.start)}, before the incident"
    if event is None or delay is None:
        return
    top = format_shares((view.name, view.contribution) for view in event.top_features)
    yield (
        f"demo: {outcome.incident.name} detected {format_duration(delay)} after its first effect, "
        f"{format_count(len(outcome.false_alarms), 'false alarm')} before it, event ended at "
        f"{format_instant(event.end or event.peak_at)}"
    )
    yield f"  top features at the peak: {top}"
    yield f"  ground truth:             {', '.join(outcome.truth)}"
