"""What a bundle contains, and whether it does.

A known set of plain files of a bounded size. What is missing, changed, or not a regular file is
refused before anything is read. Regular files that the manifest does not list, such as those of a
file manager or an editor, are named and never read.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from promad.errors import BundleError
from promad.files import open_plain, read_plain
from promad.models import MODELS, list_model_files
from promad.models.loading import LARGEST_FILE

MANIFEST_FILE = "manifest.json"
PREPARATION_FILE = "preparation.json"
SCORING_FILE = "scoring.json"
THRESHOLD_FILE = "threshold.json"
GROUPS_FILE = "groups.json"
CALIBRATION_FILE = "calibration.npz"
HISTORY_PLOT = "training_history_loss.png"
HISTOGRAM_PLOT = "reconstruction_error_histogram.png"

FORMAT = 2
_JSON_FILES = frozenset({PREPARATION_FILE, SCORING_FILE, THRESHOLD_FILE})
_GROUP_FILES = frozenset({GROUPS_FILE, CALIBRATION_FILE})
_PLOTS = frozenset({HISTORY_PLOT, HISTOGRAM_PLOT})
_NATIVE_SUFFIX = ".keras"
LARGEST_JSON = 1 << 23
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
    """What a bundle was made from and what came of it; manifest.json holds exactly this.

    `settings` has digests of the settings that the training depends on, by section.
    """

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
    group_by: list[str] = []
    groups: Annotated[int, Field(ge=0)] = 0
    settings: dict[str, str] = {}
    files: dict[str, FileEntry] = {}


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are what its manifest says.

    Attributes:
        unlisted: other files in the directory, by their relative names; nothing reads them.
    """

    directory: Path
    manifest: Manifest
    unlisted: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The directory's name."""
        return self.directory.name

    @property
    def trained_at(self) -> float:
        """When it was made, in unix seconds."""
        return datetime.fromisoformat(self.manifest.created).timestamp()


def open_bundle(directory: Path) -> Bundle:
    """The bundle in a directory, once its manifest makes sense and every file matches it.

    Raises:
        BundleError: naming the file, what was expected and what is there.
    """
    path = directory / MANIFEST_FILE
    try:
        content = read_plain(path, LARGEST_JSON)
        manifest = Manifest.model_validate_json(content)
    except (OSError, ValidationError) as error:
        first = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise BundleError(f"{path}: cannot be read ({first}) — train again or roll back") from error
    if manifest.format != FORMAT or manifest.model not in MODELS:
        raise BundleError(
            f"{path}: format {manifest.format}, model {manifest.model} is not for this version of "
            f"promad (format {FORMAT}, models {', '.join(MODELS)}) — train again"
        )
    if not directory.name.endswith(f"-{name_digest(content)}"):
        raise BundleError(
            f"{path}: was changed since training (sha256 {name_digest(content)}…, the name "
            f"{directory.name} expects another) — promad models rollback, or train again"
        )
    _require_known_files(path, manifest)
    unlisted = _find_unlisted_files(directory, manifest)
    _require_no_other_model(directory, manifest, unlisted)
    for name, entry in manifest.files.items():
        _check_file(directory / name, entry)
    return Bundle(directory, manifest, unlisted)


def _require_known_files(path: Path, manifest: Manifest) -> None:
    """Refuse a manifest that does not list exactly what a bundle of this model contains.

    The native model and the scikit-learn scaler have configurable names: next to each file of the
    model there may be one file of Keras, and one other file beside the manifest.
    """
    names = set(manifest.files)
    model_files = list_model_files(manifest.model, names)
    own_files = _JSON_FILES | (_GROUP_FILES if manifest.group_by else frozenset())
    if missing := sorted((own_files | model_files) - names):
        raise BundleError(f"{path}: does not list {', '.join(missing)} — train again or roll back")
    if not model_files:
        raise BundleError(f"{path}: does not list a model — train again or roll back")
    unknown = sorted(names - own_files - model_files - _PLOTS)
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


def _require_no_other_model(directory: Path, manifest: Manifest, unlisted: Sequence[str]) -> None:
    """Refuse a file that would be read as a part of the model, but is not listed."""
    read = list_model_files(manifest.model, {*manifest.files, *unlisted})
    for name in unlisted:
        if name in read:
            raise BundleError(
                f"{directory / name}: is not listed in {MANIFEST_FILE} — remove it, or train again"
            )


def _find_unlisted_files(directory: Path, manifest: Manifest) -> tuple[str, ...]:
    """The relative names of regular files that the manifest does not list.

    Raises:
        BundleError: if there is anything else, such as a directory, a link or a FIFO.
    """
    unlisted = []
    parents = {PurePosixPath(name).parent.as_posix() for name in manifest.files}
    folders = parents - {"."}
    known = {MANIFEST_FILE, *manifest.files, *folders}
    for folder in sorted(folders | {""}):
        place = directory / folder
        if folder and not stat.S_ISDIR(_find_mode(place)):
            raise BundleError(f"{place}: is missing or not a directory — promad models rollback")
        for path in sorted(place.iterdir()):
            name = path.relative_to(directory).as_posix()
            if name in known:
                continue
            if not stat.S_ISREG(_find_mode(path)):
                raise BundleError(
                    f"{path}: is not listed in {MANIFEST_FILE} — remove it, or train again"
                )
            unlisted.append(name)
    return tuple(unlisted)


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


def list_entries(directory: Path) -> dict[str, FileEntry]:
    """What every file below a directory is, by its relative name."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): _entry(path) for path in files}


def _entry(path: Path) -> FileEntry:
    with open_plain(path, LARGEST_FILE) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(sha256=digest, bytes=file.tell())


def name_digest(manifest: bytes) -> str:
    """What a bundle's name ends with: the manifest vouches for the files, the name for it."""
    return hashlib.sha256(manifest).hexdigest()[:8]
