"""`promad train`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import typer

from promad.cli.backend_options import (
    BackendName,
    BackendOption,
    JobsOption,
    SchedulerOption,
    choose_backend,
)
from promad.cli.commands.preprocess import format_left_out
from promad.cli.extras import require_training
from promad.cli.options import ForceOption, IfOlderThanOption, load_one_config, parse_age
from promad.cli.output import format_count, print_lines
from promad.cli.progress import show_progress
from promad.config import Config
from promad.config.training_digests import digest_training
from promad.errors import PromadError
from promad.parallel.engine import Backend

if TYPE_CHECKING:
    from promad.stages.train import TrainingReport
    from promad.thresholds import Threshold
    from promad.training.gate import Gate


GROUPS_FAILED = 3
"""The exit code if groups failed, and the bundle has the weights of all groups for them."""

LARGE_SHARE = 0.01
"""The share of windows above which a threshold from the configuration gets a comment."""


def train(
    context: typer.Context,
    force: ForceOption = False,
    if_older_than: IfOlderThanOption = None,
    backend: BackendOption = None,
    scheduler: SchedulerOption = None,
    jobs: JobsOption = None,
) -> None:
    """Train the model, choose the threshold, and make the new bundle the current one.

    The threshold is chosen for the configured alert budget, on the scores of the training and the
    validation data. A training that fails or is interrupted changes nothing. A network that finds
    injected anomalies no better than an untrained baseline is not promoted.

    With --if-older-than, nothing is done if the current bundle is younger and the configuration for
    training is unchanged.

    With model_scope: per_group, --backend fits the groups; it needs no shared disk. A group
    that fails has the weights of all groups, and the exit code is then 3.
    """
    config = load_one_config(context)
    where = choose_training_backend(config, backend, scheduler, jobs)
    if not report_due("train", config, digest_training(config), if_older_than):
        return
    require_training("train", [config.training_settings.model])
    if run_train(config, force, backend=where):
        raise typer.Exit(GROUPS_FAILED)


def choose_training_backend(
    config: Config, name: BackendName | None, scheduler: str | None, jobs: int | None
) -> Backend:
    """Where groups are fitted: by default in a process for each processor.

    Raises:
        PromadError: if there is nothing that it could fit.
    """
    scope = config.training_settings.model_scope
    if name is not None and not (config.group_by and scope == "per_group"):
        raise PromadError(
            f"--backend {name.value} fits groups one by one, and needs group_by and "
            "training_settings.model_scope: per_group — set both, or omit --backend"
        )
    return choose_backend(name, scheduler, jobs) or Backend("loky", jobs=jobs)


def report_due(
    command: str, config: Config, digests: Mapping[str, str], if_older_than: str | None
) -> bool:
    """Whether to train; with a limit of the bundle's age, print why or why not."""
    if if_older_than is None:
        return True
    longest = parse_age(if_older_than)
    from promad.bundle import BundleStore
    from promad.training.due import find_due

    due = find_due(BundleStore.of(config), digests, longest, time.time())
    print_lines([f"{command}: {due.reason}; {'training' if due.is_due else 'nothing to do'}"])
    return due.is_due


def run_train(
    config: Config,
    force: bool = False,
    digests: Mapping[str, str] | None = None,
    backend: Backend | None = None,
) -> int:
    """Train and print the results; without a terminal, each epoch is a line.

    Args:
        digests: what the bundle records of the settings; the default is those of `config`.
        backend: where groups are fitted; processes on this machine by default.

    Returns:
        How many groups failed, and have the weights of all groups.
    """
    from promad.stages.train import train as stage

    with show_progress("train") as update:

        def show(epoch: int, epochs: int, loss: float, validation: float) -> None:
            words = f"epoch {epoch}/{epochs}: loss {loss:.4g}, validation loss {validation:.4g}"
            update(epoch, epochs, words)
            if not sys.stdout.isatty():
                print_lines([f"  {words}"])

        where = backend or Backend("loky")
        report = stage(config, show, now=time.time, force=force, digests=digests, backend=where)
    print_lines(format_training(report))
    return len(report.groups_failed)


def format_training(report: TrainingReport) -> Iterator[str]:
    """The result of the gate, the threshold with its uncertainty, then the bundle."""
    from promad.bundle import HISTORY_PLOT
    from promad.stages.train import describe_blind

    if report.blind:
        yield f"  {describe_blind(report.blind)}"
    yield from format_left_out(report.groups_left_out)
    if report.groups_failed:
        yield (
            f"  warning: {format_count(len(report.groups_failed), 'group')} failed; the bundle has "
            "the weights of all groups for them — see the reasons above, and train again"
        )
    yield from _format_gate(report.gate)
    yield f"  {format_threshold(report.threshold)}"
    yield f"    {report.threshold.method}: {report.threshold.why}"
    yield from format_low_threshold(report.threshold.method, report.share_above)
    history = report.history
    if HISTORY_PLOT not in report.bundle.manifest.files:
        yield "  plots skipped: matplotlib is not installed — pip install 'promad-exporter[linear]'"
    yield (
        f"train: {format_count(report.training_windows, 'window')}, "
        f"{format_count(len(history.training_loss), 'epoch')}, best epoch {history.best_epoch} "
        f"(validation loss {history.validation_loss[history.best_epoch - 1]:.4g} on "
        f"{format_count(report.validation_windows, 'window')}) → {report.bundle.directory}"
    )
    if report.removed:
        yield f"  {format_count(len(report.removed), 'old bundle')} removed (keep_bundles)"


def _format_gate(gate: Gate) -> Iterator[str]:
    """How the model compares with the best untrained baseline, in all and by kind of anomaly."""
    if gate.skipped:
        yield f"  gate skipped: {gate.skipped}"
        return
    (row, figure), own = gate.best_naive, gate.rows[gate.model]
    result = "passed" if gate.passed else "failed, promoted anyway"
    if gate.left_out:
        yield (
            f"  network left out, linear model promoted: {gate.left_out} "
            "(promad train --force keeps the network)"
        )
    yield (
        f"  gate {result}: VUS-PR {gate.own:.3f} on injected anomalies "
        f"(best untrained baseline, {row}: {figure:.3f})"
    )
    kinds = (
        f"{kind} {own[kind]:.2f} ({gate.rows[row][kind]:.2f})" for kind in own if kind != "mean"
    )
    yield f"    {', '.join(kinds)}"


def format_low_threshold(method: str, share: float) -> Iterator[str]:
    """A comment if a threshold from the configuration is too low for the share of windows above it.

    >>> list(format_low_threshold("pot", 0.3)), list(format_low_threshold("fixed", 0.001))
    ([], [])
    """
    if method == "fixed" and share > LARGE_SHARE:
        yield (
            f"  anomaly_threshold_mse is too low: {share:.1%} of the windows are above it — raise "
            "it, or set it to auto to choose it by alert_budget"
        )


def format_threshold(threshold: Threshold) -> str:
    """The threshold and the rate of false alarms that is expected of it, with its uncertainty."""
    rate = threshold.expected_false_alarms_per_week
    if rate is None:
        return f"threshold {threshold.value:.4g}: expected rate of false alarms unknown"
    shown = _round(rate)
    alarms = "false alarm" if shown == "1" else "false alarms"
    words = f"threshold {threshold.value:.4g}: expected {shown} {alarms} per week"
    if threshold.interval is None:
        return words
    low, high = map(_round, threshold.interval)
    return f"{words} (90 % interval {low} to {high})"


def _round(rate: float) -> str:
    """Two digits, without an exponent for as many as a rate may have.

    >>> _round(2.345), _round(251.9)
    ('2.3', '250')
    """
    return f"{float(f'{rate:.2g}'):.6g}"
