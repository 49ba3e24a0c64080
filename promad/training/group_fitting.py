"""Own weights for each group of a fleet, fitted in parallel processes.

What is finished is kept in a directory until the bundle is written, so a training that was killed
continues with the groups that are left. A group that fails is reported, and the rest continue.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from promad.config import TrainingSettings
from promad.data.windows import Split, StoredWindows, split_at
from promad.errors import DataError
from promad.files import DAMAGED, write_whole
from promad.models import find_model
from promad.models.linear_groups import pack
from promad.scoring.detector import apply_model, count_errors, select_errors
from promad.scoring.scoring import Scoring, fit_scoring
from promad.training.fleet_material import FleetMaterial

Values = NDArray[np.float64]
Rows = NDArray[np.int64]

FEWEST_WINDOWS = 100
"""A group with fewer windows in the training part has no weights and calibration of its own."""

_TASKS_PER_PROCESS = 100
_MOST_ATTEMPTS = 2
_REPORTED = 10
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")

log = structlog.get_logger()


@dataclass(frozen=True)
class GroupFit:
    """What was fitted to one group.

    Attributes:
        weights: those fitted to all windows, as `promad.models.linear_groups.pack` has them.
        normaliser, baseline: of its scoring.
        at: the number of the sample of each score, int64 (scores,).
        scores: of the training and the validation part, by the pair fitted to the training part.
    """

    weights: NDArray[np.float32]
    normaliser: Values
    baseline: Values
    at: Rows
    scores: Values


def fit_groups(
    material: FleetMaterial, settings: TrainingSettings, kept: Path, processes: int | None = None
) -> tuple[dict[int, Path], dict[int, str]]:
    """Fit to each group by itself.

    Args:
        kept: a directory for what is finished; what is in it already is not fitted again.
        processes: how many at a time; as many as there are processors by default.

    Returns:
        By place in the fleet the file that `read_fit` reads, and of each other group why it failed.
    """
    kept.mkdir(parents=True, exist_ok=True)
    done, left = {}, []
    for group in range(len(material.fleet.groups)):
        path = kept / f"{group}.npz"
        if path.is_file():
            done[group] = path
        else:
            left.append(group)
    if done:
        log.info("training continued", fitted=len(done), left=len(left))
    failed: dict[int, str] = {}
    waiting, attempts = deque(left), dict.fromkeys(left, 0)
    while waiting:
        for group, why in _fit_waiting(material, settings, kept, waiting, attempts, processes):
            if why:
                failed[group] = why
            else:
                done[group] = kept / f"{group}.npz"
            count = len(done) + len(failed)
            if count % max(1, len(material.fleet.groups) // _REPORTED) == 0:
                log.info("groups fitted", done=count, groups=len(material.fleet.groups))
    return done, failed


def _fit_waiting(
    material: FleetMaterial,
    settings: TrainingSettings,
    kept: Path,
    waiting: deque[int],
    attempts: dict[int, int],
    processes: int | None,
) -> Iterator[tuple[int, str]]:
    """Groups and why they failed, empty if they did not, until none waits or a process dies."""
    workers = min(processes or os.cpu_count() or 1, len(waiting))
    nothing = StoredWindows(
        np.empty((0, material.length, material.windows.width), np.float32), np.empty(0)
    )
    small = replace(material, split=Split(nothing, nothing), windows=nothing)
    running: dict[Future[str], int] = {}
    with (
        _limit_threads(),
        ProcessPoolExecutor(
            workers,
            get_context("spawn"),
            _begin_work,
            (small, settings, kept),
            max_tasks_per_child=_TASKS_PER_PROCESS,
        ) as pool,
    ):
        while waiting or running:
            while waiting and len(running) < 2 * workers:
                group = waiting.popleft()
                attempts[group] += 1
                running[pool.submit(_fit_and_keep, group)] = group
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                group = running.pop(future)
                try:
                    yield group, future.result()
                except BrokenProcessPool:
                    lost = [group, *running.values()]
                    for each in lost:
                        if attempts[each] < _MOST_ATTEMPTS:
                            waiting.append(each)
                        else:
                            yield each, "its process ended unexpectedly — check the memory limit"
                    return


@contextmanager
def _limit_threads() -> Iterator[None]:
    """Let processes that are started meanwhile use one thread each."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_JOB: list[tuple[FleetMaterial, TrainingSettings, Path]] = []
"""What a process works at."""


def _begin_work(material: FleetMaterial, settings: TrainingSettings, kept: Path) -> None:
    _JOB[:] = [(material, settings, kept)]


def _fit_and_keep(group: int) -> str:
    """Fit to a group and write the result; why that failed, empty if it did not."""
    ((material, settings, kept),) = _JOB
    try:
        fit = fit_group(material, settings, group)
    except DataError as error:
        return str(error)
    except (ArithmeticError, np.linalg.LinAlgError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    with write_whole(kept / f"{group}.npz") as aside, aside.open("wb") as file:
        np.savez(file, allow_pickle=False, **vars(fit))
    return ""


def fit_group(material: FleetMaterial, settings: TrainingSettings, group: int) -> GroupFit:
    """Weights, scoring and scores of one group.

    Raises:
        DataError: if it has too few windows.
    """
    preparation, ends_at = material.fleet.prepare(group), material.fleet.training_ends_at
    windows = material.read_windows(group)
    split = split_at(windows, ends_at, preparation.step)
    if len(split.training) < FEWEST_WINDOWS or not len(split.validation):
        raise DataError(
            f"{len(split.training)} windows in the training part and {len(split.validation)} in "
            f"the validation part; needed: {FEWEST_WINDOWS} and 1"
        )
    at = np.round(windows.times / preparation.step).astype(np.int64)
    trained = find_model(settings.model).fit(
        split, preparation.scored, settings, settings.seed, lambda *_: None
    )
    outcome = apply_model(trained.model, windows)
    errors = select_errors(outcome, settings.scoring.method)
    training = windows.times <= ends_at + preparation.step / 2
    counted = training | np.isin(windows.times, split.validation.times)
    members = errors.shape[1] // preparation.scored
    counts = preparation.weights
    scoring = fit_scoring(errors[training], at[training], members, settings.scoring, counts)
    deviations = count_errors(errors, outcome, windows, preparation)
    scores = scoring.score(scoring.smooth(deviations, at))
    final = trained.refit(windows)
    errors = select_errors(apply_model(final.model, windows), settings.scoring.method)
    fitted = fit_scoring(errors, at, members, settings.scoring, counts)
    weights = pack(final.model)
    if not np.isfinite(weights).all():
        raise DataError("its weights are not finite")
    return GroupFit(weights, fitted.normaliser, fitted.baseline, at[counted], scores[counted])


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
    what = f"{about.st_size} {about.st_mtime_ns} {settings.model_dump_json()} {dropped!r}"
    name = hashlib.sha256(what.encode()).hexdigest()[:16]
    for other in directory.glob(".group-models-*"):
        if other.name != f".group-models-{name}":
            shutil.rmtree(other, ignore_errors=True)
    return directory / f".group-models-{name}"


def pool_scorings(scorings: Sequence[Scoring]) -> Scoring:
    """The scoring of a group of which nothing is known: the medians."""
    return replace(
        scorings[0],
        normaliser=np.median([each.normaliser for each in scorings], axis=0),
        baseline=np.median([each.baseline for each in scorings], axis=0),
    )


def spread_scores(fits: Mapping[int, GroupFit]) -> Values:
    """The scores of all groups on one grid, NaN where a group has none: (groups, samples)."""
    first = min(int(fit.at[0]) for fit in fits.values())
    last = max(int(fit.at[-1]) for fit in fits.values())
    scores = np.full((len(fits), last - first + 1), np.nan)
    for own, fit in zip(scores, fits.values(), strict=True):
        own[fit.at - first] = fit.scores
    return scores
