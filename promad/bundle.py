"""Bundles: a trained detector as a directory, checked before anything in it is opened.

`artifacts_dir/bundles/<UTC time>-<hash>/` holds one training's outcome; the link `current` beside
them points at the one that `filter` and `detect` use. A bundle is written aside and appears under
its name whole; making it current is one rename.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from promad.config import Config
from promad.data.preparation import Preparation
from promad.errors import BundleError
from promad.models import MODELS, find_model
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


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Strict):
    """What a file in the bundle must be."""

    sha256: str
    bytes: int


class Range(_Strict):
    """A stretch of time and how many windows were taken from it; ISO 8601, UTC."""

    start: str
    end: str
    windows: int


class Manifest(_Strict):
    """What a bundle was made from and what came of it; manifest.json holds exactly this."""

    format: int
    created: str
    name: str
    model: str
    preset: str
    trained_on: str
    server: str
    queries: dict[str, str]
    step_seconds: float
    sequence_length: int
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
        """An empty directory to fill and then hand to `keep`; gone afterwards in any case."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=_ASIDE, dir=self.root) as folder:
                aside = Path(folder, "bundle")
                aside.mkdir()
                yield aside
        except OSError as error:
            raise BundleError(
                f"{self.root}: cannot be written ({error.strerror or error})"
            ) from error

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


def _entries(directory: Path) -> dict[str, FileEntry]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): _entry(path) for path in files}


def _entry(path: Path) -> FileEntry:
    content = path.read_bytes()
    return FileEntry(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def open_bundle(directory: Path) -> Bundle:
    """The bundle in a directory, once its manifest makes sense and every file matches it.

    Raises:
        BundleError: naming the file, what was expected and what is there.
    """
    path = directory / MANIFEST_FILE
    try:
        content = path.read_bytes()
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
    for name, entry in manifest.files.items():
        _check_file(directory / name, entry)
    return Bundle(directory, manifest)


def _check_file(path: Path, entry: FileEntry) -> None:
    try:
        found = _entry(path)
    except OSError:
        raise BundleError(f"{path}: is missing — promad models rollback, or train again") from None
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
    return int(_json(bundle.directory / PREPARATION_FILE)["scored"])


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
    try:
        preparation = Preparation.from_json(_json(directory / PREPARATION_FILE))
        scoring = Scoring.from_json(_json(directory / SCORING_FILE))
        threshold = Threshold.from_json(_json(directory / THRESHOLD_FILE))
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{directory}: invalid content ({error}) — train again") from error
    if threshold_value is not None:
        given = ThresholdSettings(step=preparation.step, value=threshold_value)
        threshold = THRESHOLDS["fixed"](np.empty(0), given)
    model = find_model(manifest.model).load(directory)
    return Detector(preparation, model, scoring, threshold, manifest.sequence_length)


def _json(path: Path) -> Any:
    return json.loads(path.read_text())
