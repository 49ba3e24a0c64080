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
from typing import Any

from promad.cli import reports
from promad.config import Config

Now = Callable[[], float]


def say(lines: Iterable[str]) -> None:
    """Print lines as they are."""
    for line in lines:
        print(line, flush=True)


@contextmanager
def _bar(text: str) -> Iterator[Any]:
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

    with _bar("collect") as update:
        report = stage(config, now=now(), progress=update)
    say(reports.collected_lines(report))


def preprocess(config: Config) -> None:
    """Preprocess what was collected."""
    from promad.stages.preprocess import preprocess as stage

    say(reports.preprocessed_lines(stage(config)))


def train(config: Config) -> None:
    """Train, with a line per epoch where there is no terminal to draw a bar on."""
    from promad.stages.train import train as stage

    with _bar("train") as update:

        def show(epoch: int, epochs: int, loss: float, validation: float) -> None:
            words = f"epoch {epoch}/{epochs}: loss {loss:.4g}, validation loss {validation:.4g}"
            update(epoch, epochs, words)
            if not sys.stdout.isatty():
                say([f"  {words}"])

        report = stage(config, show, now=time.time)
    say(reports.training_lines(report))


def filter_(config: Config) -> None:
    """Filter what was preprocessed."""
    from promad.stages.filter import filter_windows

    say(reports.filter_lines(filter_windows(config)))


def all_stages(config: Config, now: Now = time.time) -> None:
    """Collect, preprocess, train, filter."""
    collect(config, now)
    for stage in (preprocess, train, filter_):
        stage(config)


def evaluate(
    directory: Path,
    config: Config,
    seeds: Sequence[int],
    entities: Sequence[str],
    jobs: int,
    json_path: Path | None,
    scores_to: Path | None,
) -> None:
    """Evaluate on labelled data; seeds count from the configured one."""
    from promad.files import written_whole
    from promad.stages.evaluate import evaluate as stage

    own = [config.training_settings.seed + seed for seed in seeds]
    with _bar("evaluate") as update:

        def show(entity: str, number: int, total: int) -> None:
            update(number, total, entity)

        found = stage(
            directory, config, own, entities=entities, scores_to=scores_to, jobs=jobs, done=show
        )
    if json_path is not None:
        with written_whole(json_path) as aside:
            aside.write_text(json.dumps(found.to_json(), indent=2) + "\n")
    say(reports.evaluation_lines(found))


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


def detect(configs: Sequence[Config], host: str = "", port: int | None = None) -> None:
    """Run the daemon until a signal ends it."""
    stop = stop_on_signals()

    from promad.clock import RealClock
    from promad.stages.detect import detection

    with detection(configs, RealClock(), host, port) as served:
        say([f"detect: serving on {address(host, served)}"])
        stop.wait()


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def address(host: str, port: int) -> str:
    """Where a browser finds the daemon."""
    return f"http://{host or 'localhost'}:{port}/"
