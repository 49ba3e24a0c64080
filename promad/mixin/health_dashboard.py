"""The dashboard of promad's own health: scrapes, polls, ticks, models and the process."""

from __future__ import annotations

from typing import Any

from promad.clock import DAY_SECONDS
from promad.exposition import names
from promad.mixin.board import Rows, start_board, to_json
from promad.mixin.deployment import Deployment
from promad.mixin.panels import (
    DOWN_UP,
    FAILED_SUCCEEDED,
    HEALTHY_IS_HIGH,
    PLAIN,
    shade_above,
    show_legend,
    show_lines,
    show_meaning,
    show_number,
    show_states,
)
from promad.mixin.promql import LEGEND, Selector, compute_rate

_REMOTE_WRITE = "Remote write"
"""The title of the row that is empty where promad polls."""


def build_dashboard(deployment: Deployment) -> str:
    """The dashboard as JSON."""
    select = Selector.of(deployment)
    about = "Health of promad itself: its polls, ticks, queries, models and process."
    board = start_board("promad-health", "promad: health", about, select)
    return to_json(board, _build_rows(select), collapsed=[_REMOTE_WRITE])


def _build_rows(select: Selector) -> Rows:
    return [
        ("Now", _show_now(select)),
        ("Polls", _show_polls(select)),
        ("Ticks", _show_ticks(select)),
        ("Models", _show_models(select)),
        *([("Limits", _show_limits(select))] if select.group_by else ()),
        ("Process", _show_process(select)),
        (_REMOTE_WRITE, _show_remote_write(select)),
    ]


def _show_now(select: Selector) -> list[Any]:
    return [
        show_meaning(
            show_number(
                "Daemons",
                "Whether Prometheus can scrape all daemons.",
                "none",
                (f"min({select.select_process('up')})", "scraped"),
                HEALTHY_IS_HIGH,
            ),
            DOWN_UP,
        ),
        show_number(
            "Successful queries",
            "Share of the queries that succeeded in the last poll.",
            "percentunit",
            (f"avg({select(names.QUERY_UP)})", "successful"),
            HEALTHY_IS_HIGH,
        ),
        show_number(
            "Oldest sample",
            "Age, at the last poll, of the newest sample of the query that is furthest behind.",
            "s",
            (f"max({select(names.SAMPLE_AGE)})", "age"),
        ),
        show_meaning(
            show_number(
                "Last reload",
                "Whether the last reload of the configuration succeeded on all daemons.",
                "none",
                (f"min({select(names.RELOAD_SUCCEEDED)})", "reload"),
                HEALTHY_IS_HIGH,
            ),
            FAILED_SUCCEEDED,
        ),
        show_number(
            "Oldest model",
            "Time since the oldest model in use was trained.",
            "s",
            (f"max(time() - {select(names.MODEL_TRAINED)})", "age"),
            (("green", None), ("orange", 30 * DAY_SECONDS)),
        ),
        show_legend(
            "Version",
            "Running versions of promad and Python.",
            (
                f"count by (version, python_version) ({select(names.BUILD_INFO)})",
                "{{version}} on Python {{python_version}}",
            ),
        ),
    ]


def _show_polls(select: Selector) -> list[Any]:
    failures = compute_rate(select(names.POLL_FAILURES))
    return [
        show_lines(
            "Polls and failures",
            "Polls per second, and failed polls per second by reason.",
            "reqps",
            (f"sum({compute_rate(select(names.POLLS))})", "polls"),
            (f"sum by (reason) ({failures})", "failed: {{reason}}"),
        ).min(0),
        show_lines(
            "Query failures",
            "Failed queries per second, by alias.",
            "reqps",
            (f"sum by (query) ({compute_rate(select(names.QUERY_FAILURES))})", "{{query}}"),
        ).min(0),
        show_states(
            "Queries",
            "Whether each query succeeded in the last poll.",
            DOWN_UP,
            (select(names.QUERY_UP), "{{query}} {{detector}}"),
        )
        .span(12)
        .height(8),
        show_lines(
            "Sample age",
            "Age, at each poll, of the newest sample of the query that is furthest behind.",
            "s",
            (select(names.SAMPLE_AGE), LEGEND),
        ).min(0),
    ]


def _show_ticks(select: Selector) -> list[Any]:
    ticks = compute_rate(select(names.TICK_DURATION.bucket))
    return [
        show_lines(
            "Tick duration",
            "Duration of a tick, from the first query to the verdict.",
            "s",
            *(
                (f"histogram_quantile({share}, sum by (le) ({ticks}))", name)
                for share, name in (("0.5", "median"), ("0.9", "90 %"), ("0.99", "99 %"))
            ),
        ).min(0),
        show_lines(
            "Skipped and failed ticks",
            "Ticks skipped because the previous tick was still running, and ticks that ended in "
            "an error.",
            "short",
            *(
                (f"sum(increase({select(counter)}[$__rate_interval]))", name)
                for counter, name in (
                    (names.TICKS_SKIPPED, "skipped"),
                    (names.TICK_FAILURES, "failed"),
                )
            ),
        ).min(0),
    ]


def _show_models(select: Selector) -> list[Any]:
    adapted = select(names.THRESHOLD_ADAPTED)
    return [
        show_legend(
            "Models in use",
            "Model and bundle of each detector.",
            (select(names.MODEL_INFO), "{{detector}} {{model}} {{bundle}}"),
        ).span(12),
        show_number(
            "Configuration loaded",
            "Time at which the oldest configuration in use was loaded.",
            "dateTimeFromNow",
            (f"1000 * min({select(names.RELOADED_AT)})", "loaded"),
            PLAIN,
        ).span(6),
        show_number(
            "Expected false alarms",
            "Events per week that the thresholds are expected to cause on normal data.",
            "short",
            (f"sum({select(names.EXPECTED_FALSE_ALARMS)})", "per week"),
        ).span(6),
        shade_above(
            show_lines(
                "Model age",
                "Time since each model was trained. The alert PromadBundleOld fires at 30 days.",
                "s",
                (f"time() - {select(names.MODEL_TRAINED)}", LEGEND),
            ),
            30 * DAY_SECONDS,
        ).min(0),
        show_lines(
            "Raised thresholds",
            "Times that a threshold was raised because events far exceeded the alert budget.",
            "short",
            (
                f"sum by (instance, detector) (increase({adapted}[$__rate_interval]))",
                LEGEND,
            ),
        ).min(0),
    ]


def _show_limits(select: Selector) -> list[Any]:
    """What is left out of a fleet."""
    return [
        show_lines(
            "Refused groups",
            "Groups that are not monitored, because there are max_groups already.",
            "short",
            (select(names.GROUPS_REFUSED), LEGEND),
        ).min(0),
        show_lines(
            "Feature series left out",
            "Series of single features that are not exposed, because there are max_feature_series "
            "already. Groups with an open event come first.",
            "short",
            (select(names.FEATURE_SERIES_LEFT_OUT), LEGEND),
        ).min(0),
    ]


def _show_process(select: Selector) -> list[Any]:
    return [
        show_lines(
            "Memory",
            "Resident memory of the process.",
            "bytes",
            (select.select_process("process_resident_memory_bytes"), "{{instance}}"),
        ).min(0),
        show_lines(
            "CPU",
            "CPU time of the process; 100 % is one core.",
            "percentunit",
            (compute_rate(select.select_process("process_cpu_seconds_total")), "{{instance}}"),
        ).min(0),
    ]


def _show_remote_write(select: Selector) -> list[Any]:
    """What is received, if it is."""
    requests = compute_rate(select(names.RECEIVED_REQUESTS))
    catch_ups = select(names.CATCH_UPS)
    return [
        show_lines(
            "Samples received",
            "Samples per second that were received by remote write and used. Empty without "
            "--web.enable-remote-write-receiver.",
            "cps",
            (compute_rate(select(names.RECEIVED_SAMPLES)), LEGEND),
        ).min(0),
        show_lines(
            "Samples not used",
            "Samples per second that were refused, or are of series that no detector asks for, and "
            "histograms, exemplars and metadata, by reason.",
            "cps",
            (f"sum by (reason) ({compute_rate(select(names.RECEIVED_UNUSED))})", "{{reason}}"),
        ).min(0),
        show_lines(
            "Requests",
            "Remote-write requests per second, by the status code of the response. Prometheus "
            "sends again after 429 and 5xx.",
            "reqps",
            (f"sum by (code) ({requests})", "{{code}}"),
        ).min(0),
        show_lines(
            "Age of the newest sample",
            "Time since the newest sample that was received by remote write.",
            "s",
            (f"time() - {select(names.RECEIVED_NEWEST)}", LEGEND),
        ).min(0),
        show_lines(
            "Catch-ups by query",
            "Times that samples which had not been received were queried, by result.",
            "short",
            (f"sum by (result) (increase({catch_ups}[$__rate_interval]))", "{{result}}"),
        )
        .min(0)
        .span(24),
    ]
