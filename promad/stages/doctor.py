"""`promad doctor`: whether a configuration will work well."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promad.bundle import Bundle, BundleStore, check_fits, load_detector
from promad.clock import DAY_SECONDS, WEEK_SECONDS
from promad.config import Config
from promad.config.durations import parse_instant
from promad.data.artifacts import GroupFile, open_groups
from promad.data.groups import Grouping, Labels
from promad.data.shards import list_state_directories
from promad.diagnosis.asking import Asked, ask_server
from promad.diagnosis.checks import run_checks
from promad.diagnosis.drift import Limits, compare_with_training, find_limits
from promad.diagnosis.evidence import Budget, Drift, Evidence, Found, Host, Queries
from promad.diagnosis.files import find_write_problem, list_secrets, measure_free_bytes
from promad.diagnosis.findings import Outcome
from promad.diagnosis.statistics import (
    MOST_GROUPS,
    History,
    WindowLimits,
    choose_evenly,
    read_history,
)
from promad.errors import BundleError, DataError, PrometheusError
from promad.events.event_counts import Counted, count_begun
from promad.events.event_log import FILE_NAME
from promad.prometheus.client import PrometheusClient
from promad.prometheus.recent_values import RecentPeriod, RecentValues, ask_recent_values
from promad.stages.collect import choose_periods

_OFFLINE = "needs the server — run promad doctor --online"
_COUNTED_DAYS = 28
_NEWER_SECONDS = DAY_SECONDS
"""How much newer than the training data have to be to show drift."""
_VALUE_BYTES = 8
_COPIES = 3
"""Of each value: in the cache, in the raw and in the processed file."""
_SPARE_BYTES = 100_000_000
"""Room for bundles, the event log and saved state."""


@dataclass(frozen=True)
class _Current:
    """The current bundle, if it can be used, and what is known of it in any case."""

    found: Found | str
    bundle: Bundle | None = None
    limits: Limits | None = None


def diagnose(config: Config, path: Path, *, online: bool, now: float) -> list[Outcome]:
    """What each check finds for a configuration and its file; `now` is unix seconds.

    A part that is missing or damaged is in the outcome of the checks that need it.
    """
    queries = Queries(path, config.promql, config.data_settings.step)
    current = open_current(config, now)
    file = open_collected(config)
    history = file if isinstance(file, str) else read_collected(file, config)
    groups = 1 if isinstance(file, str) else len(file.groups)
    asked: Asked | None = None
    if not online:
        drift = find_drift(current, file, config, now)
    else:
        client = PrometheusClient(config.prometheus_url, config.prometheus, retries=1)
        with closing(client):
            asked = ask_server(client, config, queries, now)
            groups = max(groups, asked.server.groups)
            drift = ask_drift(client, config, current, asked)
    return run_checks(
        Evidence(
            queries=queries if asked is None else asked.queries,
            measured=_OFFLINE if asked is None else asked.lost or asked.queries,
            host=look_at_host(config, path, groups, now),
            history=history,
            bundle=current.found,
            drift=drift,
            budget=read_budget(config, current, now),
            server=_OFFLINE if asked is None else asked.server,
            answers=_OFFLINE if asked is None else asked.lost or asked.server,
        )
    )


def open_collected(config: Config) -> GroupFile | str:
    """The collected file, or why there is nothing to look at in it."""
    settings = config.preprocessing_settings
    name = settings.input_filename or config.data_settings.output_filename
    try:
        file = open_groups(config.artifacts_dir / name, "collect")
    except DataError as error:
        return str(error)
    queries = file.metadata.get("queries")
    if file.features != config.features or queries not in {None, json.dumps(config.promql)}:
        return f"{file.path}: was collected with other queries — run promad collect"
    return file


def read_collected(file: GroupFile, config: Config) -> History | str:
    """The figures of the collected file, or why there are none."""
    limits = WindowLimits(
        config.preprocessing_settings.max_fill_steps, config.training_settings.sequence_length
    )
    try:
        return read_history(file, limits)
    except DataError as error:
        return str(error)


def look_at_host(config: Config, path: Path, groups: int, now: float) -> Host:
    """Files of this host, and room for what the stages write of so many groups."""
    periods = choose_periods(config.data_settings, now, 0.0)
    samples = sum(end - start for start, end in periods) / config.data_settings.step
    values = samples * groups * len(config.queries)
    return Host(
        artifacts_dir=config.artifacts_dir,
        problem=find_write_problem(config.artifacts_dir),
        secrets=list_secrets(config.prometheus, "prometheus", path),
        free_bytes=measure_free_bytes(config.artifacts_dir),
        needed_bytes=int(values * _VALUE_BYTES * _COPIES) + _SPARE_BYTES,
    )


def open_current(config: Config, now: float) -> _Current:
    """The current bundle, as far as it can be used."""
    store = BundleStore.of(config)
    name = store.current_id()
    if name is None:
        return _Current(f"no bundle in {store.root} — run promad train")
    try:
        bundle = store.open_current()
        limits = find_limits(load_detector(bundle))
    except BundleError as error:
        return _Current(Found(name, problem=str(error)))
    age = max(0.0, now - bundle.trained_at)
    try:
        check_fits(bundle, config)
    except BundleError as error:
        return _Current(Found(name, misfit=str(error), age_seconds=age), bundle)
    return _Current(Found(name, age_seconds=age), bundle, limits)


def find_drift(current: _Current, file: GroupFile | str, config: Config, now: float) -> Drift | str:
    """Drift by the collected file, if it is newer than the training."""
    if current.bundle is None or current.limits is None:
        return _explain_no_bundle(current)
    if isinstance(file, str):
        return f"{file}, or use --online"
    trained_until = parse_instant(current.bundle.manifest.validation.end)
    try:
        values, since, until = _read_newest(file, trained_until)
    except DataError as error:
        return str(error)
    if until - since < _NEWER_SECONDS:
        return (
            f"{file.path} has less than a day after the training — run promad collect, or use "
            "--online"
        )
    return compare_with_training(values, file.features, current.limits, until - since)


def ask_drift(
    client: PrometheusClient, config: Config, current: _Current, asked: Asked
) -> Drift | str:
    """Drift by a coarse look at the newest week."""
    if current.bundle is None or current.limits is None:
        return _explain_no_bundle(current)
    if asked.lost:
        return asked.lost
    period = RecentPeriod(asked.at, WEEK_SECONDS, max(1, asked.server.groups))
    most = 2 * config.max_groups + 1000
    try:
        values = ask_recent_values(client, config.promql, Grouping.of(config), period, most)
    except PrometheusError as error:
        return str(error)
    return compare_with_training(values, config.features, current.limits, WEEK_SECONDS)


def _explain_no_bundle(current: _Current) -> str:
    if isinstance(current.found, str):
        return current.found
    return "the current bundle cannot be used — fix that first"


def _read_newest(file: GroupFile, after: float) -> tuple[RecentValues, float, float]:
    """The values of the newest week after a time, of some groups, and from when to when they are.

    Raises:
        DataError: if the file is damaged.
    """
    places = choose_evenly(len(file.groups), MOST_GROUPS)
    frames = {file.groups[place]: file.read(place) for place in places}
    until = max(frame.end for own in frames.values() for frame in own)
    since = max(after, until - WEEK_SECONDS)
    found: dict[str, dict[Labels, NDArray[np.float64]]] = {feature: {} for feature in file.features}
    for group, own in frames.items():
        newest = np.concatenate([frame.values[0][frame.times > since] for frame in own])
        for column, feature in enumerate(file.features):
            values = newest[:, column]
            found[feature][group] = values[~np.isnan(values)]
    return found, since, until


def read_budget(config: Config, current: _Current, now: float) -> Budget | str:
    """The alert budget, what the bundle expects, and what the event log has."""
    if current.bundle is None:
        return _explain_no_bundle(current)
    manifest, budget = current.bundle.manifest, config.real_time_anomaly_detection.alert_budget
    shared = budget.per == "detector" or not config.group_by
    interval = manifest.threshold.get("interval") if shared else None
    since = max(current.bundle.trained_at, now - _COUNTED_DAYS * DAY_SECONDS)
    counted: Counted = "incidents" if config.group_by and shared else "events"
    return Budget(
        per_week=budget.false_alarms_per_week,
        expected=manifest.threshold.get("expected_false_alarms_per_week") if shared else None,
        interval=(interval[0], interval[1]) if interval else None,
        counted=counted,
        count=_count_all(config.artifacts_dir, counted, current.bundle, since),
        seconds=now - since,
        groups=1 if shared else max(1, manifest.groups),
    )


def _count_all(artifacts: Path, counted: Counted, bundle: Bundle, since: float) -> int | None:
    """The events or incidents of all shards; None if no log is readable."""
    logs = (directory / FILE_NAME for directory in list_state_directories(artifacts))
    counts = [_count(path, counted, bundle, since) for path in logs]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _count(path: Path, counted: Counted, bundle: Bundle, since: float) -> int | None:
    try:
        return count_begun(path, counted, bundle.id, since) if path.exists() else None
    except DataError:
        return None


def count_findings(outcomes: Sequence[Outcome]) -> int:
    """How many findings there are."""
    return sum(len(outcome.findings) for outcome in outcomes)
