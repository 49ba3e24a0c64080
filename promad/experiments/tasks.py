"""Tasks: what an evaluation has to do, each one row of the table for one entity and one seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from promad.config import Config

Columns = Literal["auto", "all", "first"]
"""Which columns are scored: `auto` is the first of data like Telemanom's, and all of any other."""

NAIVE_ROWS = "naive"
"""The name of the task that makes the rows of all naive scores at once."""

LINEAR_ROW = "linear"


@dataclass(frozen=True)
class Task:
    """One model's row, or all naive ones, for one entity and one seed.

    Attributes:
        row: the model's name, or NAIVE_ROWS.
        scores_path: where to write the scores, if anywhere.
        budgets: false alarms a week at which recall is measured too.
        fleet: the folders of all entities that are trained on together; empty if each is by itself.
    """

    folder: Path
    row: str
    seed: int
    config: Config
    columns: Columns
    scores_path: Path | None = None
    fleet: tuple[Path, ...] = ()
    budgets: tuple[float, ...] = ()

    @property
    def entity(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name


def list_tasks(
    folder: Path,
    configs: Sequence[Config],
    seeds: Sequence[int],
    columns: Columns,
    scores_to: Path | None,
    budgets: tuple[float, ...] = (),
) -> Iterator[Task]:
    """All tasks of an entity, the quickest first."""
    for seed in seeds:
        yield Task(folder, NAIVE_ROWS, seed, configs[0], columns, budgets=budgets)
    if not includes_linear(configs):
        linear = linear_config(configs[0])
        yield Task(folder, LINEAR_ROW, seeds[0], linear, columns, budgets=budgets)
    for config in configs:
        model = config.training_settings.model
        for seed in seeds:
            parts = [model] * (len(configs) > 1) + [f"seed-{seed}"] * (len(seeds) > 1)
            name = f"{folder.resolve().name}.parquet"
            path = None if scores_to is None else scores_to.joinpath(*parts, name)
            yield Task(folder, model, seed, config, columns, path, budgets=budgets)


def name_pooled(model: str) -> str:
    """The name of the row of one model for all entities."""
    return f"{model}, pooled"


def list_fleet_tasks(
    folders: Sequence[Path],
    configs: Sequence[Config],
    seeds: Sequence[int],
    columns: Columns,
    scores_to: Path | None,
    budgets: tuple[float, ...] = (),
) -> Iterator[list[Task]]:
    """What is done at once: the tasks of all entities of one model and seed."""
    for config in configs:
        row = name_pooled(config.training_settings.model)
        for seed in seeds:
            parts = [row, *[f"seed-{seed}"] * (len(seeds) > 1)]
            yield [
                Task(
                    folder,
                    row,
                    seed,
                    config,
                    columns,
                    None
                    if scores_to is None
                    else scores_to.joinpath(*parts, f"{folder.resolve().name}.parquet"),
                    tuple(folders),
                    budgets,
                )
                for folder in folders
            ]


def includes_linear(configs: Sequence[Config]) -> bool:
    """Whether one of the configured models is the linear one."""
    return any(config.training_settings.model == LINEAR_ROW for config in configs)


def linear_config(config: Config) -> Config:
    """The configuration with the linear model in place of its own, and the defaults for that."""
    own = config.training_settings
    training = {
        "model": LINEAR_ROW,
        "linear": own.linear,
        "train_split_ratio": own.train_split_ratio,
        "seed": own.seed,
    }
    return config_by_budget(config).model_copy(
        update={"training_settings": type(own).model_validate(training)}
    )


def config_at_budget(config: Config, budget: float) -> Config:
    """The configuration with another alert budget, and without a given limit."""
    own = config_by_budget(config)
    live = own.real_time_anomaly_detection
    changed = live.alert_budget.model_copy(update={"false_alarms_per_week": budget})
    update = {"real_time_anomaly_detection": live.model_copy(update={"alert_budget": changed})}
    return own.model_copy(update=update)


def config_by_budget(config: Config) -> Config:
    """The configuration without a given limit, which would be in another model's unit."""
    live = config.real_time_anomaly_detection.model_copy(update={"anomaly_threshold_mse": "auto"})
    return config.model_copy(update={"real_time_anomaly_detection": live})
