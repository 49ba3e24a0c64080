"""`promad [-c FILE] COMMAND`: wiring only. What is slow to import is imported by its command."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NoReturn

import typer

import promad
from promad.cli import running
from promad.cli.history import history
from promad.cli.logs import LogFormat, LogLevel, configure_logging
from promad.cli.models import models
from promad.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    ListenOption,
    config_of,
    configs_of,
    host_and_port,
)
from promad.config import Config
from promad.errors import ConfigError, PromadError

FINDINGS = 3

app = typer.Typer(
    name="promad",
    help="Finds anomalies in Prometheus metrics and says which of them are to blame.",
    epilog="Exit codes: 0 done, 1 failed at run time, 2 wrong usage or configuration, 3 findings.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(history)
app.add_typer(models, name="models")
data_sets = typer.Typer(help="Get labelled data to evaluate on.", no_args_is_help=True)
app.add_typer(data_sets, name="datasets")


class EvaluatedColumns(StrEnum):
    """Which columns of labelled data are scored."""

    AUTO = "auto"
    ALL = "all"
    FIRST = "first"


ForceOption = Annotated[
    bool, typer.Option("--force", help="Promote a network that the gate refuses all the same.")
]


def main() -> NoReturn:
    """Run a command; what goes wrong is one line on standard error and an exit code."""
    try:
        app()
    except PromadError as error:
        prefix = "" if isinstance(error, ConfigError) else "promad: "
        print(f"{prefix}{error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"promad {promad.__version__}")
        raise typer.Exit


@app.callback()
def _globals(
    context: typer.Context,
    config: ConfigOption = None,
    log_level: Annotated[
        LogLevel, typer.Option("--log-level", help="What is worth a log line.")
    ] = LogLevel.INFO,
    log_format: Annotated[
        LogFormat, typer.Option("--log-format", help="How log lines look.")
    ] = LogFormat.LOGFMT,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="The version.")
    ] = False,
) -> None:
    context.obj = config or [DEFAULT_CONFIG]
    configure_logging(log_level, log_format)


@app.command()
def collect(context: typer.Context) -> None:
    """Fetch the history of every query into a parquet file.

    Only what the cache does not hold is fetched. A query that fails, or that is not exactly one
    series, fails the stage and changes nothing.
    """
    running.collect(config_of(context))


@app.command()
def preprocess(context: typer.Context) -> None:
    """Fill short gaps, split at long ones, and scale.

    The scaler is fitted on the training part alone. Per feature it says what was filled and what
    was too long a gap to fill; no window ever spans one of those.
    """
    running.preprocess(config_of(context))


@app.command()
def train(context: typer.Context, force: ForceOption = False) -> None:
    """Train the model, choose the threshold, and make the new bundle the current one.

    The threshold is chosen on the newest part of the data, which training does not see, by the
    alert budget in the configuration. A training that fails or is interrupted changes nothing; nor
    does a network that finds injected anomalies no better than scores that learn nothing.
    """
    running.train(config_of(context), force)


@app.command("filter")
def filter_(
    context: typer.Context,
    trim: Annotated[
        bool,
        typer.Option("--trim", help="Drop the worst of the training part instead, never much."),
    ] = False,
) -> None:
    """Split the windows of the processed data into normal and anomalous ones.

    Look at the worst windows it names, then set train_on_filtered_sequences and train again to get
    a model that has not learned from incidents. With --trim only what is to be left out of that
    training counts as anomalous: at most trim_share of the training part, and nothing that came
    back on another day.
    """
    running.filter_(config_of(context), trim)


@app.command()
def run(
    context: typer.Context,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Trim the training part and train again.")
    ] = False,
    force: ForceOption = False,
    then_detect: Annotated[
        bool, typer.Option("--detect", help="Start the daemon once the stages are done.")
    ] = False,
) -> None:
    """Run collect, preprocess, train and filter in this order.

    With --retrain, filter --trim and train follow, trim_rounds times at most. With
    train_on_filtered_sequences in the configuration, --retrain is understood.
    """
    config = config_of(context)
    running.all_stages(_trained_on(config, filtered=False), force=force)
    if retrain or config.training_settings.train_on_filtered_sequences:
        running.trim_and_train(_trained_on(config, filtered=True), force)
    if then_detect:
        running.detect(lambda: [config_of(context)])


def _trained_on(config: Config, filtered: bool) -> Config:
    training = config.training_settings.model_copy(update={"train_on_filtered_sequences": filtered})
    return config.model_copy(update={"training_settings": training})


@app.command()
def detect(
    context: typer.Context, config: ConfigOption = None, listen_address: ListenOption = None
) -> None:
    """Poll Prometheus, score the newest samples, and expose the outcome as metrics.

    Several -c FILE run several detectors in one daemon. SIGHUP has it read them again and take the
    bundles that are current then; SIGTERM and Ctrl-C end it.
    """
    running.detect(lambda: configs_of(context, config), *host_and_port(listen_address))


@app.command("check-config")
def check_config(
    context: typer.Context,
    online: Annotated[
        bool, typer.Option("--online", help="Ask the server about every query too.")
    ] = False,
) -> None:
    """Say everything that is wrong with the configuration, each with its line."""
    findings = 0
    for path, config in zip(context.obj, configs_of(context), strict=True):
        running.say([f"{path}: {len(config.queries)} queries, nothing wrong"])
        findings += running.check_online(config) if online else 0
    if findings:
        raise typer.Exit(FINDINGS)


@app.command()
def openapi() -> None:
    """Print the OpenAPI description of the REST API, the same as at /openapi.json."""
    from promad.web.app import description

    running.say([description()])


@app.command()
def mixin(
    context: typer.Context,
    directory: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write into.")
    ],
    job: Annotated[
        str, typer.Option("--job", help="What Prometheus's scrape configuration calls promad.")
    ] = "promad",
) -> None:
    """Write dashboards for Grafana, and recording and alert rules for Prometheus.

    They are for the configuration at hand: its metrics' names, and how often it polls. With several
    files it is one mixin, for the daemon that runs them all.
    """
    running.mixin(configs_of(context), directory, job)


@app.command()
def evaluate(
    context: typer.Context,
    directory: Annotated[
        Path, typer.Argument(help="Labelled data: <entity>/{train,test,test_label}.parquet.")
    ],
    entity: Annotated[
        list[str] | None, typer.Option("--entity", help="Only this one; may be given again.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="In place of the configured one; again for a row more."),
    ] = None,
    threshold: Annotated[
        str | None, typer.Option("--threshold", help="In place of the configured one.")
    ] = None,
    scoring: Annotated[
        str | None, typer.Option("--scoring", help="auto or mse, in place of the configured one.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other key: section.key=value."),
    ] = None,
    columns: Annotated[
        EvaluatedColumns,
        typer.Option("--columns", help="Score all columns, or the first alone (telemetry)."),
    ] = EvaluatedColumns.AUTO,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many seeds to train with.")] = 1,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes that work at once.")] = 1,
    json: Annotated[
        Path | None,
        typer.Option("--json", help="Write every figure to this file; a run cut short goes on."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget what a run that was cut short has found.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write a page with tables and charts.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option("--scores", help="Write every score to this folder.")
    ] = None,
) -> None:
    """Measure models on labelled data, beside a linear one and scores that learn nothing.

    Each entity is preprocessed, trained on and scored as your own data would be, one sample after
    the other. A model that does not beat the rows below it is seen not to.
    """
    overrides = [
        *(set_ or []),
        *([f"real_time_anomaly_detection.threshold={threshold}"] if threshold else []),
        *([f"training_settings.scoring={scoring}"] if scoring else []),
    ]
    wanted = [[f"training_settings.model={name}"] for name in dict.fromkeys(model or [])] or [[]]
    configs = [config_of(context, [*overrides, *own]) for own in wanted]
    failed = running.evaluate(
        directory,
        configs,
        seeds=seeds,
        entities=entity or [],
        columns=columns.value,
        jobs=jobs,
        json_path=json,
        fresh=fresh,
        report_path=report,
        scores_to=scores,
    )
    if failed:
        raise typer.Exit(PromadError.exit_code)


@data_sets.command("fetch")
def fetch_data_set(
    name: Annotated[str, typer.Argument(help="smd, smap-msl or nab.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="The folder to make; data/NAME if left out.")
    ] = None,
) -> None:
    """Download a public data set and lay it out for promad evaluate.

    Every file is checked. What is there already stays, so that a fetch that was cut short goes on.
    """
    running.fetch_data_set(name, to or Path("data") / name)


@app.command()
def demo(
    until_detected: Annotated[
        bool,
        typer.Option("--until-detected", help="End once the incident was flagged and is over."),
    ] = False,
    prometheus: Annotated[
        str | None,
        typer.Option("--prometheus", metavar="URL", help="Learn from this server instead."),
    ] = None,
    incident: Annotated[
        str, typer.Option("--incident", help="slow_disk, memory_leak or retry_storm.")
    ] = "slow_disk",
    seed: Annotated[int, typer.Option("--seed", help="Which host of all possible ones.")] = 7,
    model: Annotated[
        str, typer.Option("--model", help="Which model learns; see config.yaml.")
    ] = "lstm_autoencoder",
    artifacts: Annotated[
        Path | None, typer.Option("--artifacts", help="Keep what the stages leave in this folder.")
    ] = None,
    listen_address: ListenOption = None,
) -> None:
    """Watch promad learn a simulated host and detect an incident on it; needs no Prometheus.

    With --prometheus it learns the last day of a real server and watches it from then on.
    """
    from promad.cli.demonstration import demonstrate_on_server, demonstrate_on_simulation

    if prometheus is not None and until_detected:
        raise typer.BadParameter("--until-detected is for the simulated incident alone")
    address = host_and_port(listen_address)
    with ExitStack() as stack:
        folder = artifacts or Path(stack.enter_context(TemporaryDirectory(prefix="promad-demo-")))
        if prometheus is not None:
            demonstrate_on_server(prometheus, model, folder.resolve(), address)
        else:
            demonstrate_on_simulation(
                incident, seed, model, folder.resolve(), address, until_detected
            )
