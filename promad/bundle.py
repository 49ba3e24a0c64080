"""Bundles: a trained detector as a directory, checked before anything in it is opened.

`artifacts_dir/bundles/<UTC time>-<hash>/` holds one training's outcome; the link `current` beside
them points at the one that `filter` and `detect` use. A bundle is written aside and appears under
its name whole; making it current is one rename.

A bundle contains a known set of plain files of a bounded size. What is missing, unknown, changed,
or not a regular file is refused before anything is read; numbers that are not finite or do not fit
together are refused when it is loaded.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from promad.config import Config
from promad.data.preparation import Preparation
from promad.errors import BundleError
from promad.files import (
    DAMAGED,
    explain_damage,
    is_running,
    open_plain,
    read_plain,
    remove_abandoned,
)
from promad.models import MODELS, list_model_files, load_model
from promad.models.loading import LARGEST_FILE
from promad.scoring.detector import Detector
from promad.scoring.scoring import Scoring
from promad.thresholds import THRESHOLDS, Threshold, ThresholdSettings

MANIFEST_FILE = "manifest.json"
PREPARATION_FILE = "preparation.json"
SCORING_FILE = "scoring.json"
THRESHOLD_FILE = "threshold.json"
HISTORY_PLOT = "training_history_loss.png"
HISTOGRAM_PLOT = "reconstruction_error_histogram.png"

FORMAT = 2
_CURRENT = "current"
_ASIDE = ".partial-"
_JSON_FILES = frozenset({PREPARATION_FILE, SCORING_FILE, THRESHOLD_FILE})
_PLOTS = frozenset({HISTORY_PLOT, HISTOGRAM_PLOT})
_NATIVE_SUFFIX = ".keras"
_LARGEST_JSON = 1 << 23
_LONGEST_WINDOW = 1_000_000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _check_time(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("has no time zone")
    return text


class FileEntry(_Strict):
    """What a file in the bundle must be."""

    sha256: str
    bytes: Annotated[int, Field(ge=0)]


class Range(_Strict):
    """A stretch of time and how many windows were taken from it; ISO 8601, UTC."""

    start: str
    end: str
    windows: int


class Manifest(_Strict):
    """What a bundle was made from and what came of it; manifest.json holds exactly this."""

    format: int
    created: Annotated[str, AfterValidator(_check_time)]
    name: str
    model: str
    preset: str
    trained_on: str
    server: str
    queries: dict[str, str]
    step_seconds: Annotated[float, Field(gt=0)]
    sequence_length: Annotated[int, Field(ge=1, le=_LONGEST_WINDOW)]
    scaler: str
    scoring: str
    threshold: dict[str, Any]
    training: Range
    validation: Range
    seed: int
    versions: dict[str, str]
    figures: dict[str, Any]
    excluded: list[str] = []
    gate: dict[str, Any] = {}
    files: dict[str, FileEntry] = {}


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are what its manifest says."""

    directory: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        """The directory's name."""
        return self.directory.name

    @property
    def trained_at(self) -> float:
        """When it was made, in unix seconds."""
        return datetime.fromisoformat(self.manifest.created).timestamp()


@dataclass(frozen=True)
class BundleStore:
    """All the bundles of one detector."""

    root: Path

    @staticmethod
    def of(config: Config) -> BundleStore:
        """The bundles below the configuration's artifacts_dir."""
        return BundleStore(config.artifacts_dir / "bundles")

    def ids(self) -> list[str]:
        """The names of all bundles, sound or damaged, oldest first."""
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.glob("[0-9]*") if path.is_dir())

    def current_id(self) -> str | None:
        """The name of the bundle in use, None before the first training."""
        try:
            return (self.root / _CURRENT).readlink().name
        except OSError:
            return None

    def open(self, bundle_id: str) -> Bundle:
        """The bundle of that name, every file of it checked.

        Raises:
            BundleError: if there is none, or it is damaged.
        """
        if bundle_id not in self.ids():
            known = ", ".join(self.ids()) or "none"
            raise BundleError(f"{bundle_id}: no such bundle in {self.root} (there: {known})")
        return open_bundle(self.root / bundle_id)

    def open_current(self) -> Bundle:
        """The bundle in use.

        Raises:
            BundleError: if there is none yet, or it is damaged.
        """
        current = self.current_id()
        if current is None:
            raise BundleError(f"{self.root}: no bundle yet — run promad train first")
        return self.open(current)

    def promote(self, bundle_id: str) -> Bundle:
        """Make a bundle the one in use, in one atomic step, once it has passed its checks."""
        bundle = self.open(bundle_id)
        aside = self.root / f".{_CURRENT}.{os.getpid()}"
        aside.unlink(missing_ok=True)
        aside.symlink_to(bundle_id, target_is_directory=True)
        os.replace(aside, self.root / _CURRENT)
        return bundle

    def rollback(self) -> Bundle:
        """Make the newest bundle that is older than the current one the one in use.

        Raises:
            BundleError: if there is none.
        """
        current = self.current_id()
        older = [name for name in self.ids() if current is not None and name < current]
        if not older:
            raise BundleError(f"{self.root}: nothing older than {current} to roll back to")
        return self.promote(older[-1])

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """An empty directory to fill and then hand to `keep`; gone afterwards in any case.

        What earlier trainings that were killed left behind is removed first.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with self._begin_aside() as folder:
                aside = folder / "bundle"
                aside.mkdir()
                yield aside
        except OSError as error:
            raise BundleError(
                f"{self.root}: cannot be written ({error.strerror or error})"
            ) from error

    @contextmanager
    def _begin_aside(self) -> Iterator[Path]:
        """A temporary directory below the root, locked for as long as this process uses it."""
        with ExitStack() as stack:
            with _lock(self.root):
                self._remove_abandoned()
                folder = tempfile.TemporaryDirectory(
                    prefix=_ASIDE, dir=self.root, ignore_cleanup_errors=True
                )
                path = Path(stack.enter_context(folder))
                stack.enter_context(_lock(path))
            yield path

    def _remove_abandoned(self) -> None:
        remove_abandoned(self.root.parent)
        for path in self.root.glob(f"{_ASIDE}*"):
            with suppress(OSError), _lock(path, wait=False):
                shutil.rmtree(path)
        for path in self.root.glob(f".{_CURRENT}.*"):
            number = path.name.rpartition(".")[2]
            if number.isdigit() and not is_running(int(number)):
                path.unlink(missing_ok=True)

    def keep(self, directory: Path, manifest: Manifest) -> Bundle:
        """Seal a filled directory with its manifest, give it its name and make it current."""
        sealed = manifest.model_copy(update={"files": _entries(directory)})
        content = (sealed.model_dump_json(indent=2) + "\n").encode()
        (directory / MANIFEST_FILE).write_bytes(content)
        moment = datetime.fromisoformat(sealed.created).astimezone(UTC)
        digest = _name_digest(content)
        bundle_id = f"{moment:%Y%m%dT%H%M%SZ}-{digest}"
        if not (self.root / bundle_id).exists():  # else the very same was made in this second
            directory.rename(self.root / bundle_id)
        return self.promote(bundle_id)


def _name_digest(manifest: bytes) -> str:
    """What a bundle's name ends with: the manifest vouches for the files, the name for it."""
    return hashlib.sha256(manifest).hexdigest()[:8]


@contextmanager
def _lock(directory: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a directory's lock, which ends with the process; file systems without locks have none.

    Raises:
        OSError: if it is held elsewhere and `wait` is false.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if not wait or error.errno not in {errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP}:
                raise
        yield
    finally:
        os.close(descriptor)


def _entries(directory: Path) -> dict[str, FileEntry]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): _entry(path) for path in files}


def _entry(path: Path) -> FileEntry:
    with open_plain(path, LARGEST_FILE) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(sha256=digest, bytes=file.tell())


def open_bundle(directory: Path) -> Bundle:
    """The bundle in a directory, once its manifest makes sense and every file matches it.

    Raises:
        BundleError: naming the file, what was expected and what is there.
    """
    path = directory / MANIFEST_FILE
    try:
        content = read_plain(path, _LARGEST_JSON)
        manifest = Manifest.model_validate_json(content)
    except (OSError, ValidationError) as error:
        first = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise BundleError(f"{path}: cannot be read ({first}) — train again or roll back") from error
    if manifest.format != FORMAT or manifest.model not in MODELS:
        raise BundleError(
            f"{path}: format {manifest.format}, model {manifest.model} is not for this version of "
            f"promad (format {FORMAT}, models {', '.join(MODELS)}) — train again"
        )
    if not directory.name.endswith(f"-{_name_digest(content)}"):
        raise BundleError(
            f"{path}: was changed since training (sha256 {_name_digest(content)}…, the name "
            f"{directory.name} expects another) — promad models rollback, or train again"
        )
    _require_known_files(path, manifest)
    _require_nothing_else(directory, manifest)
    for name, entry in manifest.files.items():
        _check_file(directory / name, entry)
    return Bundle(directory, manifest)


def _require_known_files(path: Path, manifest: Manifest) -> None:
    """Refuse a manifest that does not list exactly what a bundle of this model contains.

    The native model and the scikit-learn scaler have configurable names: next to each file of the
    model there may be one file of Keras, and one other file beside the manifest.
    """
    names = set(manifest.files)
    model_files = list_model_files(manifest.model, names)
    if missing := sorted((_JSON_FILES | model_files) - names):
        raise BundleError(f"{path}: does not list {', '.join(missing)} — train again or roll back")
    if not model_files:
        raise BundleError(f"{path}: does not list a model — train again or roll back")
    unknown = sorted(names - _JSON_FILES - model_files - _PLOTS)
    for folder in {PurePosixPath(name).parent for name in model_files}:
        native = (name for name in unknown if _is_in(name, folder) and _is_native(name))
        if (found := next(native, None)) is not None:
            unknown.remove(found)
    if unknown and _is_in(unknown[0], PurePosixPath()):
        unknown.pop(0)
    if unknown:
        raise BundleError(
            f"{path}: lists {unknown[0]!r}, which is no file of a bundle — train again or roll back"
        )


def _is_in(name: str, folder: PurePosixPath) -> bool:
    """Whether a name is that of a file directly in a folder of the bundle."""
    last = name.rpartition("/")[2]
    plain = last not in {"", ".", "..", MANIFEST_FILE} and last.isprintable() and "\\" not in last
    return plain and name == (folder / last).as_posix()


def _is_native(name: str) -> bool:
    return name.endswith(_NATIVE_SUFFIX)


def _require_nothing_else(directory: Path, manifest: Manifest) -> None:
    """Refuse a directory that contains more than the manifest lists."""
    parents = {PurePosixPath(name).parent.as_posix() for name in manifest.files}
    folders = parents - {"."}
    known = {MANIFEST_FILE, *manifest.files, *folders}
    for folder in sorted(folders | {""}):
        place = directory / folder
        if folder and not stat.S_ISDIR(_find_mode(place)):
            raise BundleError(f"{place}: is missing or not a directory — promad models rollback")
        for path in sorted(place.iterdir()):
            if path.relative_to(directory).as_posix() not in known:
                raise BundleError(
                    f"{path}: is not listed in {MANIFEST_FILE} — remove it, or train again"
                )


def _find_mode(path: Path) -> int:
    """The type of what is there, links not followed; 0 if there is nothing."""
    try:
        return path.lstat().st_mode
    except OSError:
        return 0


def _check_file(path: Path, entry: FileEntry) -> None:
    try:
        found = _entry(path)
    except FileNotFoundError:
        raise BundleError(f"{path}: is missing — promad models rollback, or train again") from None
    except OSError as error:
        raise BundleError(
            f"{path}: is missing or {error.strerror} — promad models rollback, or train again"
        ) from None
    if found != entry:
        raise BundleError(
            f"{path}: was changed since training (sha256 {found.sha256[:12]}…, expected "
            f"{entry.sha256[:12]}…) — promad models rollback, or train again"
        )


def check_fits(bundle: Bundle, config: Config) -> None:
    """Refuse a bundle that was trained for something else than the configuration asks for.

    Raises:
        BundleError: naming what differs and both values.
    """
    manifest = bundle.manifest
    where = f"bundle {bundle.id} does not fit the configuration"
    trained, wanted = tuple(manifest.queries), config.features
    if trained != wanted:
        raise BundleError(
            f"{where}: the bundle has the features {', '.join(trained)}; the configuration has "
            f"{', '.join(wanted)} — train again, or roll back to a bundle that fits"
        )
    _insist_on_equal_promql(where, manifest.queries, config.promql)
    step = config.real_time_anomaly_detection.data_step_duration or config.data_settings.step
    for key, trained_as, asked_for in (
        ("step", manifest.step_seconds, step),
        ("number of scored features", _scored(bundle), config.scored),
        ("sequence_length", manifest.sequence_length, config.training_settings.sequence_length),
        ("model", manifest.model, config.training_settings.model),
        ("preset", manifest.preset, config.training_settings.preset),
        ("scoring", manifest.scoring, config.training_settings.scoring.method),
    ):
        if trained_as != asked_for:
            raise BundleError(
                f"{where}: {key} is {trained_as} in the bundle, {asked_for} in the configuration "
                "— train again, or restore the configuration"
            )


def _scored(bundle: Bundle) -> int:
    path = bundle.directory / PREPARATION_FILE
    with _refuse_damaged(path):
        return int(_json(path)["scored"])


def _insist_on_equal_promql(
    where: str, trained: Mapping[str, str], wanted: Mapping[str, str]
) -> None:
    for alias in trained:
        if trained[alias] != wanted[alias]:
            raise BundleError(
                f"{where}: {alias} was trained on {trained[alias]} and is now {wanted[alias]} "
                "— train again, or restore the query"
            )


@dataclass(frozen=True)
class Opened:
    """A configuration's current bundle, and the detector in it."""

    config: Config
    bundle: Bundle
    detector: Detector


def open_detector(config: Config) -> Opened:
    """The detector that a configuration means: its current bundle, its threshold if it gives one.

    Raises:
        BundleError: if the bundle is missing, damaged or does not fit the configuration.
    """
    bundle = BundleStore.of(config).open_current()
    check_fits(bundle, config)
    given = config.real_time_anomaly_detection.anomaly_threshold_mse
    return Opened(config, bundle, load_detector(bundle, None if given == "auto" else given))


def load_detector(bundle: Bundle, threshold_value: float | None = None) -> Detector:
    """The detector in a bundle, from its code-free files.

    Args:
        threshold_value: a limit to use in place of the bundle's own.

    Raises:
        BundleError: if a file in it cannot be understood.
    """
    directory, manifest = bundle.directory, bundle.manifest
    with _refuse_damaged(directory):
        preparation = Preparation.from_json(_json(directory / PREPARATION_FILE))
        scoring = Scoring.from_json(_json(directory / SCORING_FILE))
        threshold = Threshold.from_json(_json(directory / THRESHOLD_FILE))
        _require_agreement(manifest, preparation, scoring)
        if threshold.method not in THRESHOLDS:
            raise ValueError(f"unknown threshold {threshold.method}")
        width = len(preparation.features) + preparation.calendar(np.zeros(1)).shape[1]
    if threshold_value is not None:
        given = ThresholdSettings(step=preparation.step, value=threshold_value)
        threshold = THRESHOLDS["fixed"](np.empty(0), given)
    shape = (manifest.sequence_length, width)
    members = None if scoring.method == "mse" else scoring.members
    model = load_model(manifest.model, directory, shape, preparation.scored, members)
    return Detector(preparation, model, scoring, threshold, manifest.sequence_length)


def _require_agreement(manifest: Manifest, preparation: Preparation, scoring: Scoring) -> None:
    """Refuse parts that are each sound but not of one detector.

    Raises:
        ValueError: naming what differs.
    """
    for name, found, wanted in (
        ("features", preparation.features, tuple(manifest.queries)),
        ("step", preparation.step, manifest.step_seconds),
        ("scaler", preparation.scaler.kind, manifest.scaler),
        ("scoring", scoring.method, manifest.scoring),
        ("normalisers", len(scoring.normaliser), scoring.members * preparation.scored),
        ("baselines", len(scoring.baseline), preparation.scored),
    ):
        if found != wanted:
            raise ValueError(f"{name}: {found}, expected {wanted}")


@contextmanager
def _refuse_damaged(path: Path) -> Iterator[None]:
    """Make a BundleError that names the path of any error that damaged content causes."""
    try:
        yield
    except DAMAGED as error:
        raise BundleError(
            f"{path}: invalid content ({explain_damage(error)}) — train again or roll back"
        ) from error


def _json(path: Path) -> Any:
    """The content of a JSON file of a bounded size, in which every number is finite.

    Raises:
        OSError, ValueError, RecursionError: if it is anything else.
    """
    content = read_plain(path, _LARGEST_JSON)
    return json.loads(content, parse_constant=_read_finite, parse_float=_read_finite)


def _read_finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value
