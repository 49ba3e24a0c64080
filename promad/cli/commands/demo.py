"""`promad demo`."""

from __future__ import annotations

import signal
import threading
import time
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
from promad.config.model_defaults import PRESETS
from promad.errors import PromadError

if TYPE_CHECKING:
    from promad.events.events import AnomalyEvent
    from promad.events.verdict import State, Verdict
    from promad.stages.demo import Outcome, Referee

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
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="Model to train, see config.yaml.")
    ] = "lstm_autoencoder",
    artifacts: Annotated[
        Path | None,
        typer.Option("--artifacts", metavar="DIR", help="Keep data and bundles in this directory."),
    ] = None,
    listen_address: ListenOption = None,
) -> None:
    """Train on a simulated host and detect an incident on it. Needs no Prometheus.

    With --prometheus, train on the last day of a real server and monitor it until Ctrl-C.
    """
    if prometheus is not None and until_detected:
        raise typer.BadParameter("--until-detected needs the simulated host; omit --prometheus")
    if model not in PRESETS:
        raise typer.BadParameter(f"unknown model {model}; use one of {', '.join(PRESETS)}")
    require_training("demo", [model])
    address = parse_listen_address(listen_address)
    with ExitStack() as stack:
        folder = artifacts or Path(stack.enter_context(TemporaryDirectory(prefix="promad-demo-")))
        if prometheus is not None:
            _demonstrate_on_server(prometheus, model, folder.resolve(), address)
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
