"""`promad doctor`."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promad.cli.logs import LogFormat, LogLevel, configure_logging
from promad.cli.options import load_configs
from promad.cli.output import format_count, print_lines
from promad.config import Config

if TYPE_CHECKING:
    from promad.diagnosis.findings import Outcome

FINDINGS = 3
"""The exit code if there are findings."""

_SCHEMA = 1


def doctor(
    context: typer.Context,
    online: Annotated[
        bool, typer.Option("--online", metavar="", help="Also ask the Prometheus server.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print JSON, see docs/doctor.md.")
    ] = False,
) -> None:
    """Look for what will keep a valid configuration from working well, and how to fix it.

    It looks at the queries, the collected data, the bundle, files and disk; with --online also at
    the server: scrape intervals, types of metrics, clock, labels, cost and size. It changes
    nothing. The exit code is 3 if there are findings. check-config reports whether the
    configuration is valid.
    """
    from promad.stages.doctor import count_findings, diagnose

    configure_logging(LogLevel.ERROR, LogFormat.LOGFMT)
    now, reports = time.time(), []
    for path, config in zip(context.obj, load_configs(context), strict=True):
        outcomes = diagnose(config, path, online=online, now=now)
        reports.append((path, config, outcomes))
        if not as_json:
            print_lines(format_report(path, outcomes))
    if as_json:
        print_lines([json.dumps(to_json(reports, online), indent=2, ensure_ascii=False)])
    if any(count_findings(outcomes) for _, _, outcomes in reports):
        raise typer.Exit(FINDINGS)


def format_report(path: Path, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The findings and facts of each area, and how many there are."""
    yield f"{path}:"
    for area in dict.fromkeys(outcome.area for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.area == area]
        lines = list(_format_area(own))
        if lines:
            yield f"{area}:"
            yield from lines
    yield f"{path}: {_summarise(outcomes)}"


def _format_area(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        subjects: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
        for each in outcome.findings:
            subjects[each.severity, each.found, each.remedy].append(each.subject)
        for (severity, found, remedy), named in subjects.items():
            yield f"  {severity}: {', '.join(named)}: {found} — {remedy} [{outcome.check}]"
    for outcome in outcomes:
        for fact in outcome.facts:
            yield f"  {fact.subject}: {fact.text}"
    for reason in dict.fromkeys(outcome.not_checked for outcome in outcomes):
        if reason:
            names = [outcome.check for outcome in outcomes if outcome.not_checked == reason]
            of_all = "" if len(names) == len(outcomes) else f"{', '.join(names)}: "
            yield f"  not checked: {of_all}{reason}"


def _summarise(outcomes: Sequence[Outcome]) -> str:
    findings = [finding for outcome in outcomes for finding in outcome.findings]
    skipped = sum(bool(outcome.not_checked) for outcome in outcomes)
    rest = f", {skipped} of {format_count(len(outcomes), 'check')} not done" if skipped else ""
    if not findings:
        return f"no findings{rest}"
    errors = sum(finding.severity == "error" for finding in findings)
    counts = f"{format_count(errors, 'error')}, {format_count(len(findings) - errors, 'warning')}"
    return f"{format_count(len(findings), 'finding')} ({counts}){rest}"


def to_json(
    reports: Sequence[tuple[Path, Config, Sequence[Outcome]]], online: bool
) -> dict[str, Any]:
    """The report in the documented schema."""
    return {
        "schema": _SCHEMA,
        "online": online,
        "configurations": [
            {
                "file": str(path),
                "detector": config.name,
                "findings": [
                    {
                        "check": outcome.check,
                        "area": outcome.area,
                        "severity": each.severity,
                        "subject": each.subject,
                        "found": each.found,
                        "remedy": each.remedy,
                    }
                    for outcome in outcomes
                    for each in outcome.findings
                ],
                "facts": [
                    {
                        "check": outcome.check,
                        "area": outcome.area,
                        "subject": fact.subject,
                        "text": fact.text,
                    }
                    for outcome in outcomes
                    for fact in outcome.facts
                ],
                "not_checked": [
                    {"check": outcome.check, "area": outcome.area, "reason": outcome.not_checked}
                    for outcome in outcomes
                    if outcome.not_checked
                ],
            }
            for path, config, outcomes in reports
        ],
    }
