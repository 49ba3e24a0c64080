"""Large requests to score, in a process of their own."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.exceptions import HTTPException

from promad.bundle import Bundle
from promad.detection.running_detector import RunningDetector
from promad.web import scoring_process
from promad.web.scoring_process import ScoringProcess, score_here
from tests.support.trained import create_trained_detector

FEATURES = ("cpu", "load", "memory")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunningDetector:
    values = np.random.default_rng(1).normal(size=(600, len(FEATURES)))
    return create_trained_detector(tmp_path_factory.mktemp("trained"), FEATURES, values)


@pytest.fixture(scope="module")
def scoring() -> Iterator[ScoringProcess]:
    """One for all tests: it starts again whenever one of them has ended it."""
    process = ScoringProcess()
    yield process
    process.stop()


def create_body(**keys: Any) -> bytes:
    data = np.random.default_rng(2).normal(size=(2000, len(FEATURES))).round(6)
    return json.dumps({"data": data.tolist(), **keys}).encode()


def read_pid(scoring: ScoringProcess) -> int:
    worker = scoring._worker
    assert worker is not None
    return worker.process.pid


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_the_answer_is_the_same_from_either_process(
    trained: RunningDetector, scoring: ScoringProcess
) -> None:
    body = create_body(include_per_timestep=True)
    assert json.loads(scoring.score(body, [trained])) == json.loads(score_here(body, [trained]))
    pid = read_pid(scoring)
    scoring.score(body, [trained])
    assert read_pid(scoring) == pid


def test_small_requests_need_no_process(trained: RunningDetector) -> None:
    scoring = ScoringProcess()
    scoring.score(json.dumps({"data": [[0.0, 0.0, 0.0]] * 60}).encode(), [trained])
    assert scoring._worker is None


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (create_body(scoring_mode="averaged"), 422, "scoring_mode is averaged"),
        (create_body(group="other"), 404, "no group is named other"),
        (b"[" * 100_000, 400, "the body is not valid JSON"),
        (json.dumps({f"key{n}": n for n in range(600_000)}).encode(), 400, "data is required"),
        (
            json.dumps({"data": [[1]], **{f"key{n}": n for n in range(600_000)}}).encode(),
            400,
            "key0 is not a known key",
        ),
    ],
    ids=["mode", "group", "depth", "keys", "keys and data"],
)
def test_what_is_refused_is_refused_alike(
    trained: RunningDetector, scoring: ScoringProcess, body: bytes, status: int, detail: str
) -> None:
    for _ in range(2):
        with pytest.raises(HTTPException) as refused:
            scoring.score(body, [trained])
        assert (refused.value.status_code, refused.value.detail[: len(detail)]) == (status, detail)
    assert is_alive(read_pid(scoring))


def test_a_process_that_ends_is_started_again(
    trained: RunningDetector, scoring: ScoringProcess
) -> None:
    body = create_body()
    scoring.score(body, [trained])
    first = read_pid(scoring)
    os.kill(first, signal.SIGKILL)
    wait_until_ended(first)
    scoring.score(body, [trained])
    assert read_pid(scoring) != first


def wait_until_ended(pid: int) -> None:
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_request_that_takes_too_long_ends_the_process(
    trained: RunningDetector, scoring: ScoringProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = create_body()
    scoring.score(body, [trained])
    first = read_pid(scoring)
    os.kill(first, signal.SIGSTOP)
    monkeypatch.setattr(scoring_process, "KILL_SECONDS", 0.3)
    with pytest.raises(HTTPException) as refused:
        scoring.score(body, [trained])
    assert (refused.value.status_code, refused.value.detail) == (
        503,
        "scoring took longer than 0.3 s — send fewer rows per request",
    )
    assert not is_alive(first)
    monkeypatch.undo()
    scoring.score(body, [trained])


def test_an_idle_process_returns_its_memory(
    trained: RunningDetector, scoring: ScoringProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring_process, "IDLE_SECONDS", 0.1)
    scoring.score(create_body(), [trained])
    deadline = time.monotonic() + 5
    while scoring._worker is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_stop_ends_the_process(trained: RunningDetector, scoring: ScoringProcess) -> None:
    scoring.score(create_body(), [trained])
    pid = read_pid(scoring)
    scoring.stop()
    assert not is_alive(pid)


def test_a_bundle_that_is_gone_is_a_refusal(
    tmp_path: Path, trained: RunningDetector, scoring: ScoringProcess
) -> None:
    gone = replace(trained, bundle=Bundle(tmp_path / "gone", trained.bundle.manifest))
    with pytest.raises(HTTPException) as refused:
        scoring.score(create_body(), [gone])
    assert refused.value.status_code == 503
    assert "gone/manifest.json: cannot be read" in refused.value.detail
    scoring.score(create_body(), [trained])


def test_before_the_bundles_are_loaded_it_is_refused(scoring: ScoringProcess) -> None:
    with pytest.raises(HTTPException) as refused:
        scoring.score(create_body(), [])
    assert refused.value.status_code == 503
