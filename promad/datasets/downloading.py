"""Files of public data sets, downloaded with pooch and each checked before anybody reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import pooch

import promad
from promad.errors import DataError

_TIMEOUTS_SECONDS = (10.0, 60.0)
_LARGEST_FILE_BYTES = 128 * 2**20
_PIECE_BYTES = 2**18
_RETRIES = 3


class Downloader:
    """Downloads files and keeps them until they are forgotten, so that a fetch can resume."""

    def __init__(self, origin: str, directory: Path) -> None:
        self._origin = origin
        self._directory = directory
        pooch.get_logger().setLevel("WARNING")

    def get(self, path: str, checksum: str | None) -> bytes:
        """The content of a file.

        Args:
            path: where it is, on the server and below the directory.
            checksum: `sha256:<hex>`, or `git:<hex>` for the id of a git blob.

        Raises:
            DataError: if it cannot be downloaded, or does not have the checksum.
        """
        if checksum is not None and checksum.startswith("git:"):
            return self._get_blob(path, checksum.removeprefix("git:"))
        return self._fetch(path, checksum)

    def _get_blob(self, path: str, blob_id: str) -> bytes:
        """A file by its git id, which pooch does not know: checked here, before and after."""
        kept = self._directory / path
        if kept.exists() and compute_blob_id(kept.read_bytes()) != blob_id:
            kept.unlink()
        content = self._fetch(path, None)
        if compute_blob_id(content) != blob_id:
            kept.unlink()
            raise self._describe_mismatch(path, f"git:{blob_id}")
        return content

    def _fetch(self, path: str, checksum: str | None) -> bytes:
        store = pooch.create(
            path=self._directory,
            base_url=self._origin,
            registry={path: checksum},
            retry_if_failed=_RETRIES,
        )
        try:
            return Path(store.fetch(path, downloader=_download)).read_bytes()
        except OSError as error:
            if isinstance(error, PermissionError) or error.errno is not None:
                reason = error.strerror or "Permission denied"
                raise DataError(f"{self._directory}: cannot be written ({reason})") from error
            raise DataError(
                f"{self._origin}/{path}: download failed ({_describe_failure(error)}) — check that "
                "this machine reaches the server (HTTPS_PROXY sets a proxy), then run it again; "
                "files already downloaded are kept"
            ) from error
        except ValueError as error:
            raise self._describe_mismatch(path, checksum) from error

    def _describe_mismatch(self, path: str, checksum: str | None) -> DataError:
        return DataError(
            f"{self._origin}/{path}: the file does not have its known checksum, {checksum}; it was "
            "deleted — run it again, and check whether a proxy changes downloads"
        )

    def forget(self, but: Collection[str]) -> None:
        """Delete the files that are kept, except those of some paths."""
        needed = {self._directory / path for path in but}
        for kept in self._directory.rglob("*"):
            if kept.is_file() and kept not in needed:
                kept.unlink()


def compute_blob_id(content: bytes) -> str:
    """The id that git gives to a file."""
    header = b"blob %d\0" % len(content)
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def _download(url: str, output_file: str, store: Any) -> None:
    """What pooch calls to download one file."""
    fetch = pooch.HTTPDownloader(
        timeout=_TIMEOUTS_SECONDS,
        chunk_size=_PIECE_BYTES,
        headers={"User-Agent": f"promad/{promad.__version__}"},
    )
    with open(output_file, "wb") as file:
        fetch(url, _LimitedFile(file, url), store)


class _LimitedFile:
    """A file that refuses to become larger than any file of these data sets."""

    def __init__(self, file: BinaryIO, url: str) -> None:
        self._file, self._url, self._written = file, url, 0

    def write(self, piece: bytes) -> None:
        self._written += len(piece)
        if self._written > _LARGEST_FILE_BYTES:
            raise DataError(
                f"{self._url}: larger than {_LARGEST_FILE_BYTES / 2**20:g} MiB, the limit for a "
                "file — check whether a proxy changes downloads"
            )
        self._file.write(piece)

    def flush(self) -> None:
        self._file.flush()


def _describe_failure(error: OSError) -> str:
    """`HTTP 404` if a server answered, else the kind of error."""
    response = getattr(error, "response", None)  # an error of requests has one, or None
    return type(error).__name__ if response is None else f"HTTP {response.status_code}"
