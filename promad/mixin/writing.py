"""Writes a mixin: dashboards for Grafana, rules for Prometheus."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from promad.config import Config, format_duration
from promad.errors import PromadError
from promad.files import write_whole
from promad.mixin.alerts import AlertScope, build_alert_rules
from promad.mixin.deployment import Deployment
from promad.mixin.features import build_feature_rules, find_intervals, render_remote_write
from promad.mixin.recording import build_recording_rules
from promad.mixin.rules import render_rules


@dataclass(frozen=True)
class Written:
    """A mixin that was written: where, and how much of each kind."""

    directory: Path
    prefix: str
    dashboards: int
    recordings: int
    alerts: int
    features: int = 0


def write_mixin(
    configs: Sequence[Config],
    directory: Path,
    job: str,
    alerts: AlertScope = AlertScope.INCIDENTS,
    remote_write_url: str | None = None,
    *,
    several: bool = False,
) -> Written:
    """Write the mixin of a daemon that runs these detectors.

    Args:
        alerts: what alerts about detectors with `group_by` are about.
        remote_write_url: where promad takes samples, if it does not poll: then rules that record
            the queries are written too, and what sends them.
        several: whether the job has several daemons, whose groups and incidents count once.

    Raises:
        ConfigError: if the detectors cannot share a mixin.
        PromadError: if Grafana's SDK is missing; nothing is written then.
    """
    deployment = Deployment.from_configs(configs, job, several=several)
    boards, rules = build_dashboards(deployment), build_rule_files(deployment, alerts)
    features: Mapping[str, str] = {}
    if remote_write_url is not None:
        rules = {**rules, **build_feature_files(deployment)}
        remote_write = render_remote_write(deployment, remote_write_url)
        features = {"prometheus/promad-remote-write.yaml": remote_write}
    for name, text in {**boards, **rules, **build_operator_files(rules), **features}.items():
        with write_whole(directory / name) as aside:
            aside.write_text(text, encoding="utf-8")
    return Written(
        directory,
        deployment.prefix,
        len(boards),
        sum(map(len, build_recording_rules(deployment).values())),
        sum(map(len, build_alert_rules(deployment, alerts).values())),
        sum(map(len, build_feature_rules(deployment).values())) if features else 0,
    )


def build_dashboards(deployment: Deployment) -> Mapping[str, str]:
    """Each dashboard as JSON, by its file's name.

    Raises:
        PromadError: if Grafana's SDK is missing.
    """
    try:
        from promad.mixin import detector_dashboard, fleet_dashboard, health_dashboard
    except ImportError as error:
        raise PromadError(
            f"dashboards need Grafana's SDK ({error}) — pip install 'promad-exporter[mixin]'"
        ) from None
    boards = {
        "promad": detector_dashboard.build_dashboard(deployment),
        "promad-fleet": fleet_dashboard.build_dashboard(deployment),
        "promad-health": health_dashboard.build_dashboard(deployment),
    }
    return {f"grafana/dashboards/{name}.json": text for name, text in boards.items()}


def build_rule_files(
    deployment: Deployment, scope: AlertScope = AlertScope.INCIDENTS
) -> Mapping[str, str]:
    """Rules as YAML, by their file's name; see `build_alert_rules`."""
    about = (
        f"for the job {deployment.job} and metrics with the prefix {deployment.prefix}. Generated "
        "by promad mixin: run it again instead of editing this file."
    )
    poll, step = format_duration(deployment.interval), format_duration(deployment.step)
    times = f"Durations follow from the configuration: a poll every {poll}, a sample every {step}."
    if deployment.group_by:
        times += " Scrape the job with honor_labels: true, which keeps the labels of groups."
    recordings, alerts = build_recording_rules(deployment), build_alert_rules(deployment, scope)
    return {
        "prometheus/promad-recording.yaml": render_rules(f"Recording rules {about}", recordings),
        "prometheus/promad-alerts.yaml": render_rules(f"Alerts {about} {times}", alerts),
    }


def build_feature_files(deployment: Deployment) -> Mapping[str, str]:
    """The rules that record the queries, as YAML, by their file's name."""
    about = (
        "Recording rules of the queries of promad, one series for each query and group. Generated "
        "by promad mixin: run it again after each change of a query, instead of editing this file."
    )
    text = render_rules(about, build_feature_rules(deployment), find_intervals(deployment))
    return {"prometheus/promad-features.yaml": text}


def build_operator_files(rule_files: Mapping[str, str]) -> Mapping[str, str]:
    """The same rules as the Prometheus Operator reads them, by their file's name."""
    comments, groups = zip(*(text.split("groups:\n") for text in rule_files.values()), strict=True)
    head = (
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n"
        "  name: promad\n  labels: {app.kubernetes.io/name: promad}\nspec:\n  groups:\n"
    )
    text = "".join([*comments, head, *(textwrap.indent(each, "  ") for each in groups)])
    return {"kubernetes/prometheus-operator/rules.yaml": text}
