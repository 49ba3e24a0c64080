"""`promad run`: the stages one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from promad.cli.backend_options import BackendOption, JobsOption, SchedulerOption
from promad.cli.commands.collect import run_collect
from promad.cli.commands.detect import read_share, run_detect
from promad.cli.commands.filter import run_filter, run_trimming
from promad.cli.commands.preprocess import run_preprocess
from promad.cli.commands.train import (
    GROUPS_FAILED,
    choose_training_backend,
    report_due,
    run_train,
)
from promad.cli.extras import require_training
from promad.cli.options import ForceOption, IfOlderThanOption, load_one_config
from promad.config import Config
from promad.config.training_digests import digest_training
from promad.parallel.engine import Backend


def run(
    context: typer.Context,
    retrain: Annotated[
        bool,
        typer.Option(
            "--retrain", metavar="", help="Drop the worst training windows and train again."
        ),
    ] = False,
    force: ForceOption = False,
    if_older_than: IfOlderThanOption = None,
    then_detect: Annotated[
        bool, typer.Option("--detect", metavar="", help="Start the daemon after the stages.")
    ] = False,
    backend: BackendOption = None,
    scheduler: SchedulerOption = None,
    jobs: JobsOption = None,
) -> None:
    """Run collect, preprocess, train and filter in this order.

    With --retrain, filter --trim and train follow, at most trim_rounds times.
    train_on_filtered_sequences in the configuration implies --retrain.

    With --if-older-than, for a timer or a cron job, the stages run only if the current bundle is
    older or the configuration for training has changed.

    --backend, --scheduler and --jobs are those of promad train.
    """
    config = load_one_config(context)
    where = choose_training_backend(config, backend, scheduler, jobs)
    share = read_share() if then_detect else None
    retrain = retrain or config.training_settings.train_on_filtered_sequences
    digests = digest_training(_set_filtered(config, retrain))
    failed = 0
    if report_due("run", config, digests, if_older_than):
        require_training("run", [config.training_settings.model])
        failed = run_stages(
            _set_filtered(config, False), force=force, digests=digests, backend=where
        )
        if retrain:
            again = trim_and_train(_set_filtered(config, True), force, digests, where)
            failed = failed if again is None else again
    if then_detect:
        run_detect(lambda: [load_one_config(context)], share=share)
    elif failed:
        raise typer.Exit(GROUPS_FAILED)


def run_stages(
    config: Config,
    now: Callable[[], float] = time.time,
    *,
    force: bool = False,
    digests: Mapping[str, str] | None = None,
    backend: Backend | None = None,
) -> int:
    """Collect, preprocess, train and filter, and print the result of each.

    Returns:
        How many groups failed in the training.
    """
    run_collect(config, now)
    run_preprocess(config)
    failed = run_train(config, force, digests, backend)
    run_filter(config)
    return failed


def trim_and_train(
    config: Config,
    force: bool = False,
    digests: Mapping[str, str] | None = None,
    backend: Backend | None = None,
) -> int | None:
    """Drop the worst training windows and train again, until none is dropped or `trim_rounds` end.

    `config` trains on what filter left.

    Returns:
        How many groups failed in the newest training; None without any.
    """
    dropped: tuple[Any, ...] = ()
    failed = None
    for _ in range(config.data_filtering_settings.trim_rounds):
        before, dropped = dropped, run_trimming(config, dropped)
        if len(dropped) == len(before):
            return failed
        failed = run_train(config, force, digests, backend)
    return failed


def _set_filtered(config: Config, filtered: bool) -> Config:
    training = config.training_settings.model_copy(update={"train_on_filtered_sequences": filtered})
    return config.model_copy(update={"training_settings": training})
