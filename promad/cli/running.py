"""Running a stage in front of a person: progress on a terminal, then what it has to say."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

from promad.cli import reports
from promad.config import Config

if TYPE_CHECKING:
    from promad.stages.evaluate import Progress

Now = Callable[[], float]


def say(lines: Iterable[str]) -> None:
    """Print lines as they are."""
    for line in lines:
        print(line, flush=True)


@contextmanager
def progress_bar(text: str) -> Iterator[Any]:
    """A progress bar that shows on a terminal only; yields `update(done, total, words)`."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"))
    with Progress(
        *columns, TimeElapsedColumn(), transient=True, disable=not sys.stdout.isatty()
    ) as progress:
        task = progress.add_task(text, total=None, words="")
        yield lambda done, total, words: progress.update(
            task, completed=done, total=total, words=words
        )


def collect(config: Config, now: Now = time.time) -> None:
    """Collect up to `now`."""
    from promad.stages.collect import collect as stage

    with progress_bar("collect") as update:
        report = stage(config, now=now(), progress=update)
    say(reports.collected_lines(report))


def preprocess(config: Config) -> None:
    """Preprocess what was collected."""
    from promad.stages.preprocess import preprocess as stage

    say(reports.preprocessed_lines(stage(config)))


def train(config: Config, force: bool = False) -> None:
    """Train, with a line per epoch where there is no terminal to draw a bar on."""
    from promad.stages.train import train as stage

    with progress_bar("train") as update:

        def show(epoch: int, epochs: int, loss: float, validation: float) -> None:
            words = f"epoch {epoch}/{epochs}: loss {loss:.4g}, validation loss {validation:.4g}"
            update(epoch, epochs, words)
            if not sys.stdout.isatty():
                say([f"  {words}"])

        report = stage(config, show, now=time.time, force=force)
    say(reports.training_lines(report))


def filter_(config: Config, trimming: bool = False) -> int:
    """Filter what was preprocessed; how many windows were found anomalous or dropped."""
    from promad.stages.filter import filter_windows

    report = filter_windows(config, trimming=trimming)
    say(reports.filter_lines(report))
    return report.anomalous


def all_stages(config: Config, now: Now = time.time, force: bool = False) -> None:
    """Collect, preprocess, train, filter."""
    collect(config, now)
    preprocess(config)
    train(config, force)
    filter_(config)


def trim_and_train(config: Config, force: bool = False) -> None:
    """Drop the worst of the training part and train again, `trim_rounds` times or until it is good.

    `config` says to train on what filter left.
    """
    for _ in range(config.data_filtering_settings.trim_rounds):
        if filter_(config, trimming=True) == 0:
            return
        train(config, force)


def evaluate(
    directory: Path,
    configs: Sequence[Config],
    *,
    seeds: int = 1,
    entities: Sequence[str] = (),
    columns: Literal["auto", "all", "first"] = "auto",
    jobs: int = 1,
    json_path: Path | None = None,
    fresh: bool = False,
    report_path: Path | None = None,
    scores_to: Path | None = None,
) -> int:
    """Evaluate on labelled data, seeds counting from the configured one; how many entities failed.

    With `json_path`, finished rows are cached beside it until it is written.
    """
    from promad.experiments.cache import EvaluationCache
    from promad.experiments.report import write_report
    from promad.files import written_whole
    from promad.stages.evaluate import EvaluationOptions
    from promad.stages.evaluate import evaluate as stage

    cache = None if json_path is None else EvaluationCache.beside(json_path)
    if cache is not None and fresh:
        cache.remove()
    first = configs[0].training_settings.seed
    with progress_bar("evaluate") as update:
        line = reports.EvaluationProgress(time.monotonic)

        def show(progress: Progress) -> None:
            words = line.of(progress)
            update(progress.number, progress.total, words)
            if progress.failure or not sys.stdout.isatty():
                say([f"  {words}"])

        options = EvaluationOptions(
            seeds=range(first, first + seeds),
            entities=entities,
            columns=columns,
            scores_to=scores_to,
            cache=cache,
            jobs=jobs,
        )
        found = stage(directory, configs, options, show)
    if json_path is not None and cache is not None:
        with written_whole(json_path) as aside:
            aside.write_text(json.dumps(found.to_json(), indent=2) + "\n")
        cache.remove()
    if report_path is not None:
        write_report(report_path, found)
    say(reports.evaluation_lines(found))
    return len(found.failed)


def fetch_data_set(name: str, directory: Path) -> None:
    """Fetch a public data set, with a line for each entity."""
    from promad.datasets import fetch

    folders = set()
    for report in fetch(name, directory):
        say([reports.fetched_line(report)])
        folders.add((directory / report.entity).parent)
    for folder in sorted(folders):
        say([f"datasets: {name} is there — promad evaluate {folder}"])


def check_online(config: Config) -> int:
    """Ask the server about every query; how many have a problem."""
    from promad.prometheus.checking import inspect_queries
    from promad.prometheus.client import PrometheusClient

    step = config.data_settings.step
    at = time.time() - config.real_time_anomaly_detection.latency_offset
    with closing(PrometheusClient(config.prometheus_url, config.prometheus)) as client:
        checks = inspect_queries(client, config.promql, step, at)
    say(reports.query_lines(checks, step))
    problems = sum(check.problem is not None for check in checks)
    if problems:
        say([f"{config.prometheus_url}: {problems} of {len(checks)} queries have a problem"])
    return problems


def mixin(configs: Sequence[Config], directory: Path, job: str) -> None:
    """Write dashboards and rules for a daemon that runs these detectors."""
    from promad.mixin.writing import write_mixin

    say([reports.mixin_line(write_mixin(configs, directory, job))])


def detect(read: Callable[[], Sequence[Config]], host: str = "", port: int | None = None) -> None:
    """Run the daemon until a signal ends it; SIGHUP has it read its configuration again."""
    signals = _signals()

    from promad.clock import RealClock
    from promad.stages.detect import detect as stage

    with stage(read(), RealClock(), host, port) as daemon:
        say([f"detect: serving on {address(host, daemon.port)}"])
        while signals.get() == signal.SIGHUP:
            daemon.reload(read)


def _signals() -> SimpleQueue[int]:
    """Where SIGHUP, SIGTERM and SIGINT arrive."""
    arrived: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda caught, _: arrived.put(caught))
    return arrived


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def address(host: str, port: int) -> str:
    """Where a browser finds the daemon."""
    return f"http://{host or 'localhost'}:{port}/"
