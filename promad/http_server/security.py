"""How the port is protected, as its web configuration file says, and the file's next version."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from promad.config.document import Document
from promad.errors import ConfigError, PromadError
from promad.files import read_plain
from promad.http_server.rate_limit import TokenBucket
from promad.http_server.tls import Tls, TlsError, build_tls
from promad.http_server.web_config import TlsServerConfig, format_problem, parse_web_config

log = structlog.get_logger()

LOOK_SECONDS = 1.0
RETRY_SECONDS = 5.0
_LARGEST_FILE_BYTES = 1_000_000


@dataclass(frozen=True)
class Security:
    """How the port is protected; by default it is not.

    Attributes:
        users: the bcrypt hash of each user's password; nobody needs one if there are none.
        headers: of every response.
        rate_limit: of all requests.
        files: what this was read from.
        digest: of their content.
    """

    tls: Tls | None = None
    users: Mapping[bytes, bytes] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    rate_limit: TokenBucket | None = None
    files: tuple[Path, ...] = ()
    digest: str = ""


def load_security(path: Path) -> Security:
    """What the web configuration file says.

    Paths in it are relative to its directory, as it is named.

    Raises:
        ConfigError: with one line for every mistake.
    """
    files = _Files()
    content = files.read(path, path)
    config, document = parse_web_config(content, path)
    settings = config.tls_server_config
    tls = None if settings is None else _load_tls(settings, path, document, files)
    users = config.basic_auth_users or {}
    limit = config.rate_limit
    return Security(
        tls,
        {name.encode(): hashed.encode() for name, hashed in users.items()},
        config.http_server_config.headers,
        TokenBucket(limit.interval, limit.burst) if limit.interval else None,
        tuple(files.contents),
        compute_digest(files.contents.values()),
    )


class _Files:
    """Files that were read, each once, so that the digest is of what was used."""

    def __init__(self) -> None:
        self.contents: dict[Path, bytes] = {}

    def read(self, path: Path, place: object) -> bytes:
        """The content; `place` begins the message if there is none."""
        try:
            self.contents[path] = read_plain(path, _LARGEST_FILE_BYTES, follow_links=True)
        except OSError as error:
            what = f"cannot read {path}" if place != path else "cannot read the file"
            raise ConfigError(
                [f"{place}: {what} ({error.strerror}) — check path and permissions"]
            ) from None
        return self.contents[path]


def _load_tls(settings: TlsServerConfig, path: Path, document: Document, files: _Files) -> Tls:
    def read(name: str, inline: str | None) -> bytes | None:
        key, named = f"tls_server_config.{name}_file", getattr(settings, f"{name}_file")
        if named is None:
            return None if inline is None else inline.encode()
        place = format_problem(path, document, key, "").removesuffix(": ")
        return files.read(path.parent / named, place)

    key = None if settings.key is None else settings.key.get_secret_value()
    authority = read("client_ca", settings.client_ca)
    try:
        return build_tls(
            settings, read("cert", settings.cert) or b"", read("key", key) or b"", authority
        )
    except TlsError as error:
        name = error.key
        if name.endswith("_file") and getattr(settings, name) is None:
            name = name.removesuffix("_file")
        place = f"tls_server_config.{name}"
        raise ConfigError([format_problem(path, document, place, str(error))]) from None


def compute_digest(contents: Iterable[bytes | None]) -> str:
    """A digest of the contents in their order; None for a file that cannot be read."""
    digest = hashlib.sha256()
    for content in contents:
        part = b"missing" if content is None else hashlib.sha256(content).digest()
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


class WatchedSecurity:
    """The security of a file that may change; a new version that is invalid is not used.

    A change is taken once two looks have found the same content, so that a file that is being
    written is not.
    """

    def __init__(
        self,
        path: Path,
        on_reload: Callable[[bool], None] = lambda succeeded: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._on_reload, self._now = path, on_reload, now
        self.current = load_security(path)
        self._seen = self.current.digest
        self._failed: tuple[str, float] = ("", 0.0)
        self._error = ""

    def run(self, stop: threading.Event) -> None:
        """Look every second until `stop` is set."""
        while not stop.wait(LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        """Take the files as they are now, if they have changed and are complete and valid."""
        digest = compute_digest(map(_read_or_none, self.current.files))
        settled, self._seen = digest == self._seen, digest
        failed, at = self._failed
        if not settled or (digest == failed and self._now() - at < RETRY_SECONDS):
            return
        if digest == self.current.digest:
            if self._error:
                self._succeed(self.current)
            return
        try:
            security = load_security(self._path)
            if (security.tls is None) != (self.current.tls is None):
                raise PromadError(
                    f"{self._path}: tls_server_config was added or removed — restart promad"
                )
        except PromadError as error:
            self._fail(digest, str(error))
        except Exception:  # the watch must not end: the next file may be right
            log.exception("web configuration reload failed")
            self._fail(digest, "")
        else:
            self._succeed(security)

    def _fail(self, digest: str, error: str) -> None:
        self._failed = digest, self._now()
        self._on_reload(False)
        if error and error != self._error:
            log.error("web configuration reload failed", error=error)
        self._error = error or "unexpected"

    def _succeed(self, security: Security) -> None:
        self.current, self._seen = security, security.digest
        self._failed, self._error = ("", 0.0), ""
        self._on_reload(True)
        log.info("web configuration reloaded", file=str(self._path))


def _read_or_none(path: Path) -> bytes | None:
    try:
        return read_plain(path, _LARGEST_FILE_BYTES, follow_links=True)
    except OSError:
        return None
