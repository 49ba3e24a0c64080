"""What checks look at: plain values, gathered by `promad doctor` from files and the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from promad.diagnosis.statistics import History
from promad.prometheus.query_costs import QueryCost
from promad.prometheus.scrape_intervals import Intervals


@dataclass(frozen=True)
class Queries:
    """What the configuration asks for.

    Attributes:
        path: of the configuration file.
        promql: alias → PromQL.
        step: seconds between samples.
        types: by metric `counter`, `gauge` or another type, as far as the server knows it.
        intervals: seconds between two scrapes of each selector; None without a server.
    """

    path: Path
    promql: Mapping[str, str]
    step: float
    types: Mapping[str, str] = field(default_factory=dict)
    intervals: Intervals | None = None


@dataclass(frozen=True)
class SecretFile:
    """A file with a secret.

    Attributes:
        key: of the configuration.
        problem: why it cannot be read; empty if it can.
        mode: of the file, if any local user can read it; else None.
    """

    key: str
    path: Path
    problem: str = ""
    mode: int | None = None


@dataclass(frozen=True)
class Host:
    """Files of the host, and the room that they have.

    Attributes:
        problem: why artifacts_dir cannot be written; empty if it can.
        free_bytes: of the disk of artifacts_dir; None if unknown.
        needed_bytes: about what `collect` and the stages after it write.
    """

    artifacts_dir: Path
    problem: str
    secrets: Sequence[SecretFile]
    free_bytes: int | None
    needed_bytes: int


@dataclass(frozen=True)
class Found:
    """The current bundle.

    Attributes:
        name: of the bundle, or the directory of all bundles.
        problem: why it cannot be used, in one line; empty if it can.
        misfit: why it does not fit the configuration, in one line; empty if it does.
        age_seconds: since it was trained; None if it cannot be used.
    """

    name: str
    problem: str = ""
    misfit: str = ""
    age_seconds: float | None = None


@dataclass(frozen=True)
class Drift:
    """How the newest values compare with the training.

    Attributes:
        seconds: of the newest values.
        shares: by feature the share of its values outside of the training range, 0 to 1.
        groups: how many groups have values to compare.
    """

    seconds: float
    shares: Mapping[str, float]
    groups: int


@dataclass(frozen=True)
class Budget:
    """The alert budget, and what became of it.

    Attributes:
        per_week: acceptable false alarms per week.
        expected: how many the threshold was chosen for, if known.
        interval: 90 % of its uncertainty, if known.
        counted: what is counted, in the plural: `events` or `incidents`.
        count: how many of them began in the newest `seconds`; None if that is not known.
        groups: how many groups have the budget each; 1 if all of them share it.
    """

    per_week: float
    expected: float | None
    interval: tuple[float, float] | None
    counted: str
    count: int | None
    seconds: float
    groups: int = 1


@dataclass(frozen=True)
class Server:
    """What the server answered.

    Attributes:
        url: of the server.
        problems: of queries, each `query: what — what to do`.
        latency: what is wrong with latency_offset, in one line; empty if nothing is.
        clock: the same of the clock.
        hidden: a line for each label that the scraping side renames.
        refused: what to do if there are more groups than max_groups; empty if there are not.
        groups: how many are monitored.
        series: how many promad exposes, at most.
        memory_bytes: what `detect` takes, about.
        memory_limit: of this machine, in bytes.
        costs: by alias.
        interval: seconds between two ticks.
        tick_seconds: what a tick takes, about.
    """

    url: str
    problems: Sequence[str] = ()
    latency: str = ""
    clock: str = ""
    hidden: Sequence[str] = ()
    refused: str = ""
    groups: int = 0
    series: int = 0
    memory_bytes: float = 0.0
    memory_limit: float | None = None
    costs: Mapping[str, QueryCost] = field(default_factory=dict)
    interval: float = 30.0
    tick_seconds: float | None = None


@dataclass(frozen=True)
class Evidence:
    """All that is known; a text in place of a part is why it is not known, and what to do.

    `measured` are the queries with what the server knows of their metrics, `answers` is the server
    if it answered more than that it cannot be asked.
    """

    queries: Queries
    measured: Queries | str
    host: Host
    history: History | str
    bundle: Found | str
    drift: Drift | str
    budget: Budget | str
    server: Server | str
    answers: Server | str
