"""promad's own health: whether it is there, reads what it should, and keeps its pace."""

from __future__ import annotations

from typing import Any

from promad.mixin.board import Rows, as_json, board
from promad.mixin.deployment import Deployment
from promad.mixin.panels import (
    DOWN_UP,
    FAILED_WORKED,
    HEALTHY_IS_HIGH,
    PLAIN,
    label,
    limited,
    lines,
    mapped,
    number,
    states,
)
from promad.mixin.promql import LEGEND, Groups, of_daemon, of_detector, of_process, per_second

_DAY = 86400.0


def dashboard(deployment: Deployment) -> str:
    """The dashboard as JSON."""
    groups = Groups(deployment.prefix)
    about = "Whether promad itself is well: its polls, ticks, queries, models and its process."
    return as_json(board("promad-health", "promad: its own health", about, groups), _rows())


def _rows() -> Rows:
    return [
        ("Now", _now()),
        ("Reading", _reading()),
        ("Pace", _pace()),
        ("Models", _models()),
        ("Process", _process()),
    ]


def _now() -> list[Any]:
    reloaded = of_daemon("config_last_reload_successful")
    return [
        mapped(
            number(
                "Daemons",
                "Whether Prometheus can scrape the daemon that is worst off.",
                "none",
                (f"min({of_process('up')})", "scraped"),
                HEALTHY_IS_HIGH,
            ),
            DOWN_UP,
        ),
        number(
            "Queries answered",
            "Share of the queries whose last answer could be used.",
            "percentunit",
            (f"avg({of_detector('query_up')})", "answered"),
            HEALTHY_IS_HIGH,
        ),
        number(
            "Oldest sample",
            "Age, at the last poll, of the newest sample of the query furthest behind.",
            "s",
            (f"max({of_detector('sample_age_seconds')})", "age"),
        ),
        mapped(
            number(
                "Last reload",
                "Whether the configuration in use is the one in the files, as far as is known.",
                "none",
                (f"min({reloaded})", "reload"),
                HEALTHY_IS_HIGH,
            ),
            FAILED_WORKED,
        ),
        number(
            "Oldest model",
            "Time since the oldest model in use was trained.",
            "s",
            (f"max(time() - {of_detector('model_trained_timestamp_seconds')})", "age"),
            (("green", None), ("orange", 30 * _DAY)),
        ),
        label(
            "Version",
            "The promads that run, and their Python.",
            (
                f"count by (version, python_version) ({of_daemon('build_info')})",
                "{{version}} on Python {{python_version}}",
            ),
        ),
    ]


def _reading() -> list[Any]:
    return [
        lines(
            "Polls and failures",
            "Polls each second, and those that failed, by reason.",
            "reqps",
            (f"sum({per_second(of_detector('polls_total'))})", "polls"),
            (
                f"sum by (reason) ({per_second(of_detector('poll_failures_total'))})",
                "failed: {{reason}}",
            ),
        ).min(0),
        lines(
            "Query failures",
            "Failed queries each second, by alias.",
            "reqps",
            (f"sum by (query) ({per_second(of_detector('query_failures_total'))})", "{{query}}"),
        ).min(0),
        states(
            "Queries",
            "Whether each query's last answer could be used.",
            DOWN_UP,
            (of_detector("query_up"), "{{query}} {{detector}}"),
        )
        .span(12)
        .height(8),
        lines(
            "Sample age",
            "How old the newest sample of the query furthest behind was at each poll.",
            "s",
            (of_detector("sample_age_seconds"), LEGEND),
        ).min(0),
    ]


def _pace() -> list[Any]:
    ticks = per_second(of_detector("tick_duration_seconds_bucket"))
    return [
        lines(
            "Tick duration",
            "How long a pass takes, from asking Prometheus to the verdict.",
            "s",
            *(
                (f"histogram_quantile({share}, sum by (le) ({ticks}))", name)
                for share, name in (("0.5", "median"), ("0.9", "90 %"), ("0.99", "99 %"))
            ),
        ).min(0),
        lines(
            "Skipped and failed ticks",
            "Ticks left out because the one before took too long, and those that broke off.",
            "short",
            *(
                (f"sum(increase({of_detector(counter)}[$__rate_interval]))", name)
                for counter, name in (
                    ("ticks_skipped_total", "skipped"),
                    ("tick_failures_total", "failed"),
                )
            ),
        ).min(0),
    ]


def _models() -> list[Any]:
    return [
        label(
            "Models in use",
            "Each detector's model, and the bundle that it came from.",
            (of_detector("model_info"), "{{detector}} {{model}} {{bundle}}"),
        ).span(12),
        number(
            "Configuration loaded",
            "When the configuration and the bundles that are in use for the longest were loaded.",
            "dateTimeFromNow",
            (
                f"1000 * min({of_daemon('config_last_reload_success_timestamp_seconds')})",
                "loaded",
            ),
            PLAIN,
        ).span(6),
        number(
            "Expected false alarms",
            "Events a week that the thresholds are expected to give while nothing is wrong.",
            "short",
            (f"sum({of_detector('expected_false_alarms_per_week')})", "a week"),
        ).span(6),
        limited(
            lines(
                "Model age",
                "Time since each model was trained. The alert PromadBundleOld fires at 30 days.",
                "s",
                (f"time() - {of_detector('model_trained_timestamp_seconds')}", LEGEND),
            ),
            30 * _DAY,
        ).min(0),
        lines(
            "Raised thresholds",
            "Times that a threshold was raised because far more events came than were expected.",
            "short",
            (
                f"sum by (instance, detector) (increase({of_detector('threshold_adapted_total')}"
                "[$__rate_interval]))",
                LEGEND,
            ),
        ).min(0),
    ]


def _process() -> list[Any]:
    return [
        lines(
            "Memory",
            "Resident memory of the process.",
            "bytes",
            (of_process("process_resident_memory_bytes"), "{{instance}}"),
        ).min(0),
        lines(
            "Processor",
            "Processor time that the process takes; 100 % is one core.",
            "percentunit",
            (per_second(of_process("process_cpu_seconds_total")), "{{instance}}"),
        ).min(0),
    ]
