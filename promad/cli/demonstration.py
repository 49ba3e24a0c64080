"""`promad demo` on a terminal."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from promad.cli import running
from promad.cli.logs import LogFormat, LogLevel, configure_logging
from promad.clock import RealClock
from promad.config.durations import format_duration, format_instant
from promad.config.model_defaults import PRESETS
from promad.errors import PromadError
from promad.events.events import AnomalyEvent
from promad.events.verdict import State, Verdict
from promad.simulation.incidents import SCENARIOS
from promad.stages.demo import SPEED, Outcome, Referee, real_config, simulated_stage
from promad.stages.detect import detect

Address = tuple[str, int | None]

_LINE_EVERY_SECONDS = 300.0


def demonstrate_on_simulation(
    incident: str,
    seed: int,
    model: str,
    artifacts: Path,
    address: Address,
    until_detected: bool,
) -> None:
    """The five stages on a simulated host, then the incident; ends by itself only if asked to.

    Raises:
        PromadError: if the incident was to be detected and was not.
    """
    if incident not in SCENARIOS:
        raise typer.BadParameter(f"{incident} is unknown; there are {', '.join(SCENARIOS)}")
    insist_on_model(model)
    configure_logging(LogLevel.ERROR, LogFormat.LOGFMT)
    with simulated_stage(time.time(), artifacts, incident, seed, model) as stage:
        running.say([f"demo: a simulated host at {stage.config.prometheus_url}"])
        running.all_stages(stage.config, stage.time.now)
        stop = running.stop_on_signals()
        referee = Referee(stage.incident, stop) if until_detected else Referee(stage.incident)
        comment = _Commentator(referee)
        with detect([stage.config], stage.time.run(), *address, comment) as daemon:
            running.say(
                [
                    f"detect: watch {running.address(address[0], daemon.port)} — time runs "
                    f"{SPEED:g} times as fast; at {format_instant(stage.incident.start)}: "
                    f"{incident} ({stage.incident.scenario.story})"
                ]
            )
            stop.wait()
    _conclude(referee.outcome(), until_detected)


def insist_on_model(model: str) -> None:
    """Refuse a model that there is not."""
    if model not in PRESETS:
        raise typer.BadParameter(f"{model} is unknown; there are {', '.join(PRESETS)}")


def demonstrate_on_server(url: str, model: str, artifacts: Path, address: Address) -> None:
    """The five stages on the last day of a real server, then detection until a signal ends it."""
    insist_on_model(model)
    config = real_config(url, artifacts, time.time(), model)
    running.say([f"demo: {', '.join(config.features)} of {url}"])
    running.all_stages(config, force=True)  # a show, whatever the gate says of this server
    stop = running.stop_on_signals()
    with detect([config], RealClock(), *address) as daemon:
        running.say([f"detect: watch {running.address(address[0], daemon.port)}"])
        stop.wait()


class _Commentator:
    """Says what happens, line by line, and lets the referee see it."""

    def __init__(self, referee: Referee) -> None:
        self._referee = referee
        self._said_at = float("-inf")
        self._state = State.WARMING

    def __call__(self, verdict: Verdict, ended: AnomalyEvent | None) -> None:
        changed = verdict.state is not self._state
        if changed or verdict.at - self._said_at >= _LINE_EVERY_SECONDS:
            running.say([self._line(verdict)])
            self._state, self._said_at = verdict.state, verdict.at
        self._referee.observe(verdict, ended)

    def _line(self, verdict: Verdict) -> str:
        top = ", ".join(f"{view.name} {view.contribution:.0%}" for view in verdict.top_features)
        return (
            f"  {format_instant(verdict.at)}  {verdict.state:<9}  "
            f"score {verdict.score_ratio or 0:6.2f}  threshold 1  {top}"
        )


def _conclude(outcome: Outcome, must_be_detected: bool) -> None:
    """Say how the replay ended beside the truth."""
    event, delay = outcome.event, outcome.delay_seconds
    for alarm in outcome.false_alarms:
        running.say([f"  false alarm at {format_instant(alarm.start)}, before the incident"])
    if event is None or delay is None:
        if must_be_detected:
            raise PromadError(f"demo: {outcome.incident.name} was not detected to its end")
        return
    top = ", ".join(f"{view.name} {view.contribution:.0%}" for view in event.top_features)
    running.say(
        [
            f"demo: {outcome.incident.name} detected {format_duration(delay)} after its first "
            f"effect, {len(outcome.false_alarms)} false alarms before it, over at "
            f"{format_instant(event.end or event.peak_at)}",
            f"  top features at the peak: {top}",
            f"  the truth:                {', '.join(outcome.truth)}",
        ]
    )
