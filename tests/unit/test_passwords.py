"""What verifying passwords costs, what is remembered, and how failures are limited."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter

import bcrypt
import pytest

from promad.http_server import passwords
from promad.http_server.passwords import (
    FAILURES_AT_ONCE,
    SECONDS_PER_FAILURE,
    PasswordCheck,
    Verdict,
)

PASSWORD = "correct horse: ½"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
RIGHT, WRONG = ("alice", PASSWORD), ("alice", "wrong")


class Comparisons:
    """Takes the place of bcrypt, and counts."""

    def __init__(self, wait: float = 0.0) -> None:
        self.hashes: list[bytes] = []
        self.threads: set[str] = set()
        self.wait = wait

    def __call__(self, password: bytes, hashed: bytes) -> bool:
        self.hashes.append(hashed)
        self.threads.add(threading.current_thread().name)
        time.sleep(self.wait)
        return password == PASSWORD.encode()


@pytest.fixture
def comparisons(monkeypatch: pytest.MonkeyPatch) -> Comparisons:
    counted = Comparisons()
    monkeypatch.setattr(passwords.bcrypt, "checkpw", counted)
    return counted


ALICE = {b"alice": HASH.encode()}


def check(
    checker: PasswordCheck,
    name: str,
    password: str,
    users: dict[bytes, bytes] = ALICE,
    client: str = "a",
) -> Verdict:
    return asyncio.run(checker.check(users, name.encode(), password.encode(), client))


def test_a_right_password_costs_bcrypt_once_in_another_thread(comparisons: Comparisons) -> None:
    checker = PasswordCheck()
    assert [check(checker, *RIGHT) for _ in range(5)] == [Verdict.RIGHT] * 5
    assert len(comparisons.hashes) == 1
    assert {name.partition("_")[0] for name in comparisons.threads} == {"password"}


def test_a_wrong_password_is_never_remembered(comparisons: Comparisons) -> None:
    checker = PasswordCheck()
    assert [check(checker, *WRONG) for _ in range(3)] == [Verdict.WRONG] * 3
    assert len(comparisons.hashes) == 3


def test_what_is_remembered_is_bounded_and_no_password(comparisons: Comparisons) -> None:
    checker = PasswordCheck()
    for number in range(300):
        check(checker, f"user{number}", PASSWORD, {f"user{number}".encode(): HASH.encode()})
    assert len(checker._right) == 256
    assert all(len(entry) == 32 and PASSWORD.encode() not in entry for entry in checker._right)
    assert PASSWORD.encode() not in repr(vars(checker)).encode()


def test_two_processes_remember_the_same_password_differently() -> None:
    one, two = PasswordCheck(), PasswordCheck()
    for checker in (one, two):
        assert check(checker, *RIGHT) is Verdict.RIGHT
    assert set(one._right).isdisjoint(two._right)


def test_a_new_hash_makes_the_old_password_wrong() -> None:
    checker = PasswordCheck()
    assert check(checker, *RIGHT) is Verdict.RIGHT
    other = bcrypt.hashpw(b"other", bcrypt.gensalt(4))
    assert check(checker, *RIGHT, {b"alice": other}) is Verdict.WRONG
    assert check(checker, *RIGHT, {b"bob": HASH.encode()}) is Verdict.WRONG


def test_an_unknown_user_costs_as_much_as_the_most_expensive_one(comparisons: Comparisons) -> None:
    users = {b"alice": HASH.encode(), b"bob": HASH.replace("$04$", "$12$").encode()}
    assert check(PasswordCheck(), "carol", PASSWORD, users) is Verdict.WRONG
    (dummy,) = comparisons.hashes
    assert (dummy[:7], len(dummy)) == (b"$2b$12$", 60)


def test_the_hash_of_an_unknown_user_is_one_that_bcrypt_reads() -> None:
    assert not bcrypt.checkpw(b"x", passwords._make_dummy(ALICE))


def test_the_same_password_at_once_is_compared_once(comparisons: Comparisons) -> None:
    comparisons.wait = 0.05
    checker = PasswordCheck()

    async def ask() -> list[Verdict]:
        calls = [checker.check(ALICE, b"alice", PASSWORD.encode(), "a") for _ in range(50)]
        return list(await asyncio.gather(*calls))

    assert set(asyncio.run(ask())) == {Verdict.RIGHT}
    assert len(comparisons.hashes) == 1


def test_only_some_passwords_wait_for_bcrypt(comparisons: Comparisons) -> None:
    comparisons.wait = 0.01
    checker = PasswordCheck()

    async def ask() -> list[Verdict]:
        calls = [
            checker.check(ALICE, b"alice", f"{number}".encode(), f"client {number}")
            for number in range(40)
        ]
        return list(await asyncio.gather(*calls))

    assert Counter(asyncio.run(ask())) == {Verdict.WRONG: 16, Verdict.BUSY: 24}


def test_failures_are_limited_for_each_client(comparisons: Comparisons) -> None:
    now = [0.0]
    checker = PasswordCheck(lambda: now[0])
    assert check(checker, *RIGHT) is Verdict.RIGHT
    verdicts = [check(checker, "alice", f"{number}") for number in range(FAILURES_AT_ONCE + 5)]
    assert verdicts == [Verdict.WRONG] * FAILURES_AT_ONCE + [Verdict.TOO_MANY_FAILURES] * 5
    assert len(comparisons.hashes) == FAILURES_AT_ONCE + 1
    assert check(checker, *RIGHT) is Verdict.RIGHT, "a verified password is not kept out"
    assert check(checker, *WRONG, client="b") is Verdict.WRONG
    now[0] += SECONDS_PER_FAILURE
    assert check(checker, *WRONG) is Verdict.WRONG
    assert check(checker, *WRONG) is Verdict.TOO_MANY_FAILURES


def test_right_passwords_are_no_failures(comparisons: Comparisons) -> None:
    checker = PasswordCheck(lambda: 0.0)
    users = {f"user{number}".encode(): HASH.encode() for number in range(50)}
    assert {check(checker, name.decode(), PASSWORD, users) for name in users} == {Verdict.RIGHT}
