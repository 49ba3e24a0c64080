"""The bundles of a detector: which there are, which is in use, and how another is added.

A bundle is written aside and appears under its name whole; making it current is one rename.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from promad.bundle.manifest import (
    MANIFEST_FILE,
    Bundle,
    Manifest,
    list_entries,
    name_digest,
    open_bundle,
)
from promad.config import Config
from promad.errors import BundleError
from promad.files import is_running, remove_abandoned

log = structlog.get_logger()

_CURRENT = "current"
_ASIDE = ".partial-"


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
        """The bundle of that name, every file of it checked; logs the names of unlisted files.

        Raises:
            BundleError: if there is none, or it is damaged.
        """
        if bundle_id not in self.ids():
            known = ", ".join(self.ids()) or "none"
            raise BundleError(f"{bundle_id}: no such bundle in {self.root} (there: {known})")
        bundle = open_bundle(self.root / bundle_id)
        if bundle.unlisted:
            log.warning(
                "ignored files that the manifest does not list",
                bundle=str(bundle.directory),
                files=", ".join(bundle.unlisted),
            )
        return bundle

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

    def remove_old(self, most: int) -> list[str]:
        """Remove the oldest bundles, so that `most` are left; returns their names.

        The current one stays, and so do all that are newer. What cannot be removed is logged.
        """
        current, removed = self.current_id(), []
        for bundle_id in self.ids()[:-most]:
            if current is None or bundle_id >= current:
                break
            aside = self.root / f"{_ASIDE}{bundle_id}"
            try:
                (self.root / bundle_id).rename(aside)  # at once: what is left of it is no bundle
                shutil.rmtree(aside)
            except OSError as error:
                log.warning("old bundle not removed", bundle=bundle_id, error=str(error))
            else:
                removed.append(bundle_id)
        return removed

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
        sealed = manifest.model_copy(update={"files": list_entries(directory)})
        content = (sealed.model_dump_json(indent=2) + "\n").encode()
        (directory / MANIFEST_FILE).write_bytes(content)
        moment = datetime.fromisoformat(sealed.created).astimezone(UTC)
        digest = name_digest(content)
        bundle_id = f"{moment:%Y%m%dT%H%M%SZ}-{digest}"
        if not (self.root / bundle_id).exists():  # else the very same was made in this second
            directory.rename(self.root / bundle_id)
        return self.promote(bundle_id)


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
