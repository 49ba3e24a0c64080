"""`promad evaluate`."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promad.cli.backend_options import BackendOption, SchedulerOption, choose_backend
from promad.cli.evaluation_tables import TaskProgress, format_evaluation
from promad.cli.extras import require_training
from promad.cli.options import load_config_or_defaults
from promad.cli.output import print_lines
from promad.cli.progress import show_progress
from promad.config import Config
from promad.errors import PromadError
from promad.parallel.engine import Backend

if TYPE_CHECKING:
    from promad.stages.evaluate import Progress


class Columns(StrEnum):
    """Which columns of labelled data are scored."""

    AUTO = "auto"
    ALL = "all"
    FIRST = "first"


@dataclass(frozen=True)
class Options:
    """How to evaluate, and where to write what.

    Attributes:
        seeds: how many, counting from the configured one.
        entities: the names of those wanted; none means all.
        columns: which columns are scored.
        backend: what trains and scores.
        json_path: where to write every figure; results of finished tasks are kept beside it, so
            that an interrupted run resumes.
        fresh: whether to discard such results first.
        report_path: where to write a page with tables and charts.
        scores_to: the directory for the scores of every sample.
        step_is_given: whether the step of data without time stamps is known.
        fleet: whether each model is also trained on all entities together.
        budgets: false alarms a week at which recall is measured too.
    """

    seeds: int = 1
    entities: Sequence[str] = ()
    columns: Columns = Columns.AUTO
    backend: Backend = field(default_factory=Backend)
    json_path: Path | None = None
    fresh: bool = False
    report_path: Path | None = None
    scores_to: Path | None = None
    step_is_given: bool = True
    fleet: bool = False
    budgets: tuple[float, ...] = ()


def evaluate(
    context: typer.Context,
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Labelled data: DIR/<entity>/{train,test,test_label}.parquet."
        ),
    ],
    entity: Annotated[
        list[str] | None,
        typer.Option("--entity", metavar="NAME", help="Evaluate only this entity; repeatable."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="NAME", help="Model, if not the configured one; repeatable."
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            "--threshold", metavar="NAME", help="Threshold method, if not the configured one."
        ),
    ] = None,
    scoring: Annotated[
        str | None,
        typer.Option(
            "--scoring",
            metavar="NAME",
            help="Scoring method, if not the configured one: auto, normalised or mse.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any other configuration key, as section.key=value; repeatable.",
        ),
    ] = None,
    step: Annotated[
        str | None,
        typer.Option(
            "--step",
            metavar="DURATION",
            help="Time between two samples of data without time stamps, such as 1m.",
        ),
    ] = None,
    columns: Annotated[
        Columns,
        typer.Option("--columns", help="Columns to score; first suits telemetry with commands."),
    ] = Columns.AUTO,
    fleet: Annotated[
        bool,
        typer.Option(
            "--fleet",
            metavar="",
            help="Also train each model once on all entities as one fleet, with one threshold.",
        ),
    ] = False,
    budgets: Annotated[
        str | None,
        typer.Option(
            "--budgets",
            metavar="N,N,…",
            help="Also measure recall at these alert budgets (false alarms per week), such as "
            "1,2,7, beside the best single threshold.",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", min=1, help="Number of seeds to train with.")
    ] = 1,
    backend: BackendOption = None,
    scheduler: SchedulerOption = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            metavar="N",
            min=1,
            help="Number of parallel processes (default: 1, or all workers of --backend).",
        ),
    ] = None,
    json_path: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write all figures to this file. An interrupted run resumes.",
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", metavar="", help="Discard the results of an interrupted run."),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Write an HTML page with tables and charts."),
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            "--scores", metavar="DIR", help="Write the score of every sample to this directory."
        ),
    ] = None,
) -> None:
    """Measure models on labelled data, and compare them with untrained baselines.

    It needs no configuration file: without one, all keys have their defaults.

    Each entity is preprocessed, trained on and scored like live data: one sample after the other,
    from past samples only. The tables also have rows for a linear model and untrained baselines.

    With --fleet, the row "<model>, pooled" is of one model for all entities, whose alert budget is
    shared as alert_budget.per says: by the whole fleet, or one for each entity (group).
    """
    overrides = [
        *(set_ or []),
        *([f"data_settings.step={step}"] if step else []),
        *([f"real_time_anomaly_detection.threshold={threshold}"] if threshold else []),
        *([f"training_settings.scoring={scoring}"] if scoring else []),
    ]
    wanted = [[f"training_settings.model={name}"] for name in dict.fromkeys(model or [])] or [[]]
    configs = [load_config_or_defaults(context, [*overrides, *own]) for own in wanted]
    require_training("evaluate", [config.training_settings.model for config in configs])
    options = Options(
        seeds=seeds,
        entities=entity or (),
        columns=columns,
        backend=choose_backend(backend, scheduler, jobs) or _choose_processes(jobs),
        json_path=json_path,
        fresh=fresh,
        report_path=report,
        scores_to=scores,
        step_is_given=any(each.startswith("data_settings.step=") for each in overrides),
        fleet=fleet,
        budgets=_parse_budgets(budgets),
    )
    if run_evaluate(directory, configs, options):
        raise typer.Exit(PromadError.exit_code)


def _choose_processes(jobs: int | None) -> Backend:
    """As many processes; this one if that is not given."""
    return Backend() if jobs in {None, 1} else Backend("loky", jobs=jobs)


def _parse_budgets(text: str | None) -> tuple[float, ...]:
    """The alert budgets on the command line, smallest first.

    >>> _parse_budgets("7,1,1")
    (1.0, 7.0)
    """
    try:
        found = sorted({float(each) for each in text.split(",")} if text else ())
    except ValueError:
        found = [math.nan]
    if not all(0 < each < math.inf for each in found):
        raise typer.BadParameter(
            f"invalid --budgets {text}; write false alarms per week above 0, such as 1,2,7"
        )
    return tuple(found)


def run_evaluate(directory: Path, configs: Sequence[Config], options: Options) -> int:
    """Evaluate, write what `options` asks for and print the tables; how many entities failed."""
    from promad.experiments.cache import EvaluationCache
    from promad.experiments.report import write_report
    from promad.files import write_whole
    from promad.stages.evaluate import EvaluationOptions, require_time_stamps
    from promad.stages.evaluate import evaluate as stage

    if not options.step_is_given:
        require_time_stamps(directory, options.entities)
    json_path = options.json_path
    cache = None if json_path is None else EvaluationCache.beside(json_path)
    if cache is not None and options.fresh:
        cache.remove()
    first = configs[0].training_settings.seed
    with show_progress("evaluate") as update:
        line = TaskProgress(time.monotonic)

        def show(progress: Progress) -> None:
            words = line.format(progress)
            update(progress.number, progress.total, words)
            if progress.failure or not sys.stdout.isatty():
                print_lines([f"  {words}"])

        wanted = EvaluationOptions(
            seeds=range(first, first + options.seeds),
            entities=options.entities,
            columns=options.columns.value,
            scores_to=options.scores_to,
            cache=cache,
            backend=options.backend,
            fleet=options.fleet,
            budgets=options.budgets,
        )
        found = stage(directory, configs, wanted, show)
    if json_path is not None and cache is not None:
        with write_whole(json_path) as aside:
            aside.write_text(json.dumps(found.to_json(), indent=2) + "\n")
        cache.remove()
    if options.report_path is not None:
        write_report(options.report_path, found)
    print_lines(format_evaluation(found))
    return len(found.failed)
