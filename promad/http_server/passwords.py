"""Passwords: verified ones are remembered, and wrong ones are limited."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum

import bcrypt

from promad.http_server.rate_limit import TokenBucket

FAILURES_AT_ONCE = 10
SECONDS_PER_FAILURE = 2.0
"""A client may fail ten times at once, and then every two seconds."""

_MOST_REMEMBERED = 256
_MOST_CLIENTS = 4096
_MOST_WAITING = 16
_LONGEST = 72
"""Bytes of a password that bcrypt uses."""


class Verdict(StrEnum):
    """What is known of a name and a password."""

    RIGHT = "right"
    WRONG = "wrong_password"
    TOO_MANY_FAILURES = "too_many_failures"
    BUSY = "busy"


class PasswordCheck:
    """Compares passwords with bcrypt hashes, one at a time, in a thread of its own.

    What was right is remembered as a keyed hash, whose key never leaves the process, so that the
    next request costs no bcrypt. To be used from one event loop.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._under_way: dict[bytes, asyncio.Task[bool]] = {}
        self._failures: OrderedDict[str, TokenBucket] = OrderedDict()
        self._worker = ThreadPoolExecutor(1, "password")

    async def check(
        self, users: Mapping[bytes, bytes], name: bytes, password: bytes, client: str
    ) -> Verdict:
        """Whether it is the password of this user.

        An unknown user takes as long as the most expensive hash.

        Args:
            client: whose failures are counted together.
        """
        hashed = users.get(name, _make_dummy(users))
        entry = self._identify(name, hashed, password)
        if entry in self._right:
            self._right.move_to_end(entry)
            return Verdict.RIGHT
        failures = self._find_failures(client)
        task = self._under_way.get(entry)
        if task is None:
            if len(self._under_way) >= _MOST_WAITING:
                return Verdict.BUSY
            if not failures.admit():
                return Verdict.TOO_MANY_FAILURES
            task = asyncio.create_task(self._compare(entry, password, hashed, failures))
            self._under_way[entry] = task
        return Verdict.RIGHT if await asyncio.shield(task) and name in users else Verdict.WRONG

    async def _compare(
        self, entry: bytes, password: bytes, hashed: bytes, failures: TokenBucket
    ) -> bool:
        """Whether the password is right; the attempt counts as a failure until it is."""
        try:
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._worker, _matches, password, hashed)
        finally:
            del self._under_way[entry]
        if right:
            failures.give_back()
            self._right[entry] = None
            if len(self._right) > _MOST_REMEMBERED:
                self._right.popitem(last=False)
        return right

    def _identify(self, name: bytes, hashed: bytes, password: bytes) -> bytes:
        """A keyed hash; with another hash in the file, the password is compared again."""
        parts = b"".join(len(part).to_bytes(8) + part for part in (name, hashed, password))
        return hmac.digest(self._key, parts, "sha256")

    def _find_failures(self, client: str) -> TokenBucket:
        bucket = self._failures.pop(client, None)
        if bucket is None:
            bucket = TokenBucket(SECONDS_PER_FAILURE, FAILURES_AT_ONCE, self._now)
        self._failures[client] = bucket
        if len(self._failures) > _MOST_CLIENTS:
            self._failures.popitem(last=False)
        return bucket


def _matches(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password[:_LONGEST], hashed)
    except ValueError:  # a hash that bcrypt cannot read, though it looks like one
        return False


def _make_dummy(users: Mapping[bytes, bytes]) -> bytes:
    """A hash that no password has, as expensive as the most expensive one."""
    cost = max((hashed[4:6] for hashed in users.values()), default=b"10")
    return b"$2b$" + cost + b"$" + b"." * 53
