"""Own weights for each group of a fleet, fitted by workers, and kept until the bundle is written.

What is finished is in a directory, so a training that was killed continues with the groups that are
left. A group that fails is reported, and the rest continue.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import structlog

import promad
from promad.config import TrainingSettings
from promad.errors import DataError
from promad.files import DAMAGED, write_whole
from promad.parallel.backend import open_engine
from promad.parallel.engine import Backend
from promad.parallel.running import Failure, run_each
from promad.training.fleet_material import FleetMaterial
from promad.training.group_fitting import (
    GroupData,
    GroupFit,
    TooFewWindowsError,
    fit_group,
    read_group,
)

PROCESSES = Backend("loky")
"""Where groups are fitted by default: a process for each processor."""

_REPORTED = 10

log = structlog.get_logger()


@dataclass(frozen=True)
class GroupRun:
    """What became of each group, by its place in the fleet.

    Attributes:
        done: the file that `read_fit` reads.
        too_few: why groups with too little data have no weights of their own.
        failed: why others have none.
    """

    done: dict[int, Path] = field(default_factory=dict)
    too_few: dict[int, str] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)

    @property
    def left_out(self) -> dict[int, str]:
        """Why groups have no weights of their own."""
        return dict(sorted((self.too_few | self.failed).items()))


def fit_groups(
    material: FleetMaterial, settings: TrainingSettings, kept: Path, backend: Backend = PROCESSES
) -> GroupRun:
    """Fit to each group by itself.

    Args:
        kept: a directory for what is finished; what is in it already is not fitted again.

    Raises:
        PromadError: if the backend is not installed, does not answer, or does not suit.
    """
    kept.mkdir(parents=True, exist_ok=True)
    places = range(len(material.fleet.groups))
    run = GroupRun({group: path for group in places if (path := _name_fit(kept, group)).is_file()})
    left = [group for group in places if group not in run.done]
    if run.done:
        log.info("training continued", fitted=len(run.done), left=len(left))
    if not left:
        return run
    every = max(1, len(places) // _REPORTED)
    with open_engine(backend) as engine:
        found = run_each(fit_or_refuse, settings, _read_groups(material, left), engine)
        for number, (group, result) in enumerate(found, len(run.done) + 1):
            _enter(run, kept, group, result)
            if number % every == 0:
                log.info("groups fitted", done=number, groups=len(places))
    return run


def _read_groups(material: FleetMaterial, groups: list[int]) -> Iterator[tuple[int, GroupData]]:
    for group in groups:
        yield group, read_group(material, group)


def fit_or_refuse(settings: TrainingSettings, data: GroupData) -> GroupFit | TooFewWindowsError:
    """What is fitted to a group, or why it has too few windows for that."""
    try:
        return fit_group(settings, data)
    except TooFewWindowsError as error:
        return error


def _enter(
    run: GroupRun, kept: Path, group: int, result: GroupFit | TooFewWindowsError | Failure
) -> None:
    if isinstance(result, Failure):
        run.failed[group] = result.reason
        log.warning("group failed", group=group, reason=result.reason)
    elif isinstance(result, TooFewWindowsError):
        run.too_few[group] = str(result)
    else:
        run.done[group] = _name_fit(kept, group)
        write_fit(run.done[group], result)


def _name_fit(kept: Path, group: int) -> Path:
    return kept / f"{group}.npz"


def write_fit(path: Path, fit: GroupFit) -> None:
    """Write what was fitted to one group.

    Raises:
        DataError: if the directory cannot be written.
    """
    with write_whole(path) as aside, aside.open("wb") as file:
        np.savez(file, allow_pickle=False, **vars(fit))


def read_fit(path: Path) -> GroupFit:
    """What was fitted to one group.

    Raises:
        DataError: if the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return GroupFit(**{name: stored[name] for name in stored.files})
    except (*DAMAGED, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error}) — remove it and train again") from error


def name_kept(directory: Path, source: Path, settings: TrainingSettings, dropped: object) -> Path:
    """The directory for what is finished of a training on a file with these settings.

    Those of other trainings are removed.
    """
    about = source.stat()
    data = f"{about.st_size} {about.st_mtime_ns} {dropped!r}"
    what = f"{promad.__version__} {data} {settings.model_dump_json()}"
    name = hashlib.sha256(what.encode()).hexdigest()[:16]
    for other in directory.glob(".group-models-*"):
        if other.name != f".group-models-{name}":
            shutil.rmtree(other, ignore_errors=True)
    return directory / f".group-models-{name}"
