"""A mixin as files: dashboards for Grafana, rules for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from promad.config import Config, format_duration
from promad.errors import PromadError
from promad.files import written_whole
from promad.mixin.alerts import alert_rules
from promad.mixin.deployment import Deployment
from promad.mixin.recording import recording_rules
from promad.mixin.rules import rules_file


@dataclass(frozen=True)
class Written:
    """What a mixin came to: where it is, and how much of each there is."""

    directory: Path
    prefix: str
    dashboards: int
    recordings: int
    alerts: int


def write_mixin(configs: Sequence[Config], directory: Path, job: str) -> Written:
    """Write the mixin of a daemon that runs these detectors.

    Raises:
        ConfigError: if the detectors cannot have one mixin.
        PromadError: if Grafana's SDK is missing; nothing is written then.
    """
    deployment = Deployment.of(configs, job)
    boards, rules = dashboards(deployment), rule_files(deployment)
    for name, text in {**boards, **rules}.items():
        with written_whole(directory / name) as aside:
            aside.write_text(text, encoding="utf-8")
    recordings, alerts = recording_rules(deployment), alert_rules(deployment)
    return Written(
        directory,
        deployment.prefix,
        len(boards),
        sum(map(len, recordings.values())),
        sum(map(len, alerts.values())),
    )


def dashboards(deployment: Deployment) -> Mapping[str, str]:
    """Each dashboard as JSON, by its file's name.

    Raises:
        PromadError: if Grafana's SDK is missing.
    """
    try:
        from promad.mixin import detector_dashboard as detail
        from promad.mixin import fleet_dashboard as fleet
        from promad.mixin import health_dashboard as health
    except ImportError as error:
        raise PromadError(
            f"dashboards are built with Grafana's SDK ({error}) — "
            "pip install 'promad-exporter[mixin]'"
        ) from None
    boards = {"promad": detail, "promad-fleet": fleet, "promad-health": health}
    return {
        f"grafana/dashboards/{name}.json": board.dashboard(deployment)
        for name, board in boards.items()
    }


def rule_files(deployment: Deployment) -> Mapping[str, str]:
    """Rules as YAML, by their file's name."""
    about = (
        f"of the job {deployment.job}, for metrics that begin with {deployment.prefix}. Made by "
        "promad mixin: make them again rather than edit them."
    )
    poll, step = format_duration(deployment.interval), format_duration(deployment.step)
    times = f"Times follow from the configuration: a poll every {poll}, a sample every {step}."
    recordings, alerts = recording_rules(deployment), alert_rules(deployment)
    return {
        "prometheus/promad-recording.yaml": rules_file(f"Recording rules {about}", recordings),
        "prometheus/promad-alerts.yaml": rules_file(f"Alerts {about} {times}", alerts),
    }
