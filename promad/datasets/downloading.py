"""Files from a server: in pieces, with time limits, each checked before anybody reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

import promad
from promad.errors import DataError
from promad.files import written_whole

ORIGIN = "https://raw.githubusercontent.com"

Get = Callable[[str, str | None], bytes]
"""The content of a file, by its path on the server and its checksum, where one is known."""

_TIMEOUTS_SECONDS = (10.0, 60.0)
_LARGEST_FILE_BYTES = 128 * 2**20
_PIECE_BYTES = 2**18
_ATTEMPTS = 4


class Downloader:
    """Downloads files and keeps them until they are forgotten, so that a fetch can go on."""

    def __init__(self, origin: str, kept_in: Path) -> None:
        self._origin = origin
        self._kept_in = kept_in
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"promad/{promad.__version__}"
        retries = Retry(_ATTEMPTS - 1, backoff_factor=0.5, status_forcelist=(429, 502, 503, 504))
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retries))

    def get(self, path: str, checksum: str | None) -> bytes:
        """The content of a file.

        Args:
            checksum: `sha256:<hex>`, or `git:<hex>` for the id of a git blob.

        Raises:
            DataError: if it cannot be had, or does not have the checksum.
        """
        url, kept = f"{self._origin}/{path}", self._kept(path)
        with suppress(OSError):
            content = kept.read_bytes()
            if checksum is None or _agrees(content, checksum):
                return content
        content = self._downloaded(url)
        if checksum is not None and not _agrees(content, checksum):
            raise DataError(
                f"{url}: is not the file that is expected, {checksum} — nothing of it was kept; "
                "run it again, and see whether a proxy changes what passes through it"
            )
        with written_whole(kept) as aside:
            aside.write_bytes(content)
        return content

    def _downloaded(self, url: str) -> bytes:
        try:
            with self._session.get(url, stream=True, timeout=_TIMEOUTS_SECONDS) as answer:
                if answer.status_code != requests.codes.ok:
                    raise DataError(
                        f"{url}: the server answers {answer.status_code} {answer.reason} — run it "
                        "again later; what is there already is kept"
                    )
                content = bytearray()
                for piece in answer.iter_content(_PIECE_BYTES):
                    content += piece
                    if len(content) > _LARGEST_FILE_BYTES:
                        raise DataError(f"{url}: is larger than any file of these data sets")
                return bytes(content)
        except (requests.RequestException, OSError) as error:
            raise DataError(
                f"{url}: cannot be downloaded ({type(error).__name__}) — see whether this machine "
                "reaches the server (HTTPS_PROXY names a proxy) and run it again; what is there "
                "already is kept"
            ) from error

    def forget(self, but: Collection[str]) -> None:
        """Remove the files that were kept, but for those of some paths."""
        needed = {self._kept(path) for path in but}
        for kept in self._kept_in.glob("*"):
            if kept not in needed:
                kept.unlink()

    def _kept(self, path: str) -> Path:
        return self._kept_in / path.replace("/", "%")

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def _agrees(content: bytes, checksum: str) -> bool:
    kind, _, expected = checksum.partition(":")
    if kind == "git":
        header = b"blob %d\0" % len(content)
        return hashlib.sha1(header + content, usedforsecurity=False).hexdigest() == expected
    return hashlib.sha256(content).hexdigest() == expected
