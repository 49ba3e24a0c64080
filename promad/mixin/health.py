"""What the dashboard shows of promad's own health."""

from __future__ import annotations

from typing import Any

from grafana.looks import HEALTHY_IS_HIGH, label, lines, number, states
from grafana.promql import of_detector, of_process, per_second


def daemon_panels() -> list[Any]:
    """Polls, ticks, queries, the model's age and what the process takes."""
    ticks = per_second(of_detector("promad_tick_duration_seconds_bucket"))
    return [
        lines(
            "Polls and failures",
            "Polls each second, and those that failed, by reason.",
            "reqps",
            (f"sum({per_second(of_detector('promad_polls_total'))})", "polls"),
            (
                f"sum by (reason) ({per_second(of_detector('promad_poll_failures_total'))})",
                "failed: {{reason}}",
            ),
        ).min(0),
        lines(
            "Tick duration",
            "How long a pass takes, from asking Prometheus to the verdict.",
            "s",
            *(
                (f"histogram_quantile({share}, sum by (le) ({ticks}))", name)
                for share, name in (("0.5", "median"), ("0.9", "90 %"), ("0.99", "99 %"))
            ),
        ).min(0),
        states(
            "Queries",
            "Whether each query's last answer could be used.",
            ("down", "up"),
            ("red", "green"),
            (of_detector("promad_query_up"), "{{query}} {{detector}}"),
        )
        .span(12)
        .height(8),
        lines(
            "Query failures",
            "Failed queries each second, by alias.",
            "reqps",
            (
                f"sum by (query) ({per_second(of_detector('promad_query_failures_total'))})",
                "{{query}}",
            ),
        ).min(0),
        lines(
            "Sample age",
            "How old the newest sample was when it was scored.",
            "s",
            (of_detector("promad_sample_age_seconds"), "{{instance}} {{detector}}"),
        ).min(0),
        lines(
            "Skipped and failed ticks",
            "Ticks left out because the one before took too long, and those that broke off.",
            "short",
            *(
                (f"sum(increase({of_detector(counter)}[$__rate_interval]))", name)
                for counter, name in (
                    ("promad_ticks_skipped_total", "skipped"),
                    ("promad_tick_failures_total", "failed"),
                )
            ),
        ).min(0),
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
        number(
            "Model age",
            "Time since the oldest model was trained.",
            "s",
            (f"max(time() - {of_detector('promad_model_trained_timestamp_seconds')})", "age"),
        ).span(6),
        number(
            "Expected false alarms",
            "Events a week that the threshold is expected to give while nothing is wrong.",
            "short",
            (f"sum({of_detector('promad_expected_false_alarms_per_week')})", "a week"),
        ).span(6),
        number(
            "Queries up",
            "Share of the queries whose last answer could be used.",
            "percentunit",
            (f"avg({of_detector('promad_query_up')})", "up"),
            HEALTHY_IS_HIGH,
        ).span(6),
        label(
            "Version",
            "The promad that runs, and its Python.",
            (of_process("promad_build_info"), "{{version}} on Python {{python_version}}"),
        ).span(6),
    ]
