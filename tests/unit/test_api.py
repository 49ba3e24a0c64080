"""The REST API: what it answers, what it refuses and in which words, and what it costs others."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from promad.data.frame import single_group
from promad.detection.running_detector import RunningDetector
from promad.events.incident_book import IncidentBook, Watched
from promad.events.markers import Marker
from promad.events.verdict import State
from promad.models import Outcome, SingleScoringMode
from promad.models.tranad import Measure, Tranad
from promad.scoring.detector import Detector
from promad.web import groups_api, limits, scoring
from promad.web.app import SCORED_AT_ONCE, WAITING, build_app
from tests.support.detectors import score_rows
from tests.support.incidents import RULES, enter, make_event, report
from tests.support.served import (
    FEATURES,
    LENGTH,
    NOW,
    ODD_SAMPLES,
    STEP,
    ExpectsNothing,
    close_logs,
    create_bundle,
    create_detector,
    create_groups,
    create_running_detectors,
    serve_detectors,
)

BOTH = ("web", "db")
JSON = {"content-type": "application/json"}


def client_of(running: list[RunningDetector], **keys: Any) -> TestClient:
    app = build_app(CollectorRegistry(), lambda: running, lambda: True, now=lambda: NOW)
    return TestClient(app, **keys)


@dataclass
class Bench:
    """An API and what it shows."""

    running: list[RunningDetector]
    client: TestClient

    def get(self, path: str, **params: Any) -> Any:
        answer = self.client.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, **params: Any) -> tuple[int, str]:
        answer = self.client.get(path, params=params)
        return answer.status_code, answer.json()["detail"]

    def score(self, **request: Any) -> Any:
        answer = self.client.post("/score", json=request)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    made: list[RunningDetector] = []

    def made_of(**keys: Any) -> Bench:
        running = create_running_detectors(tmp_path, **keys)
        made.extend(running)
        return Bench(running, client_of(running))

    yield made_of
    close_logs(made)


@pytest.fixture
def bench(make: Any) -> Bench:
    """One detector with one anomalous group."""
    one: Bench = make()
    return one


def raw(rows: int, columns: int = len(FEATURES), seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns)).round(6)


def spiked(rows: int = 40) -> list[list[float]]:
    """Quiet samples of which the second feature is far off at rows 20 to 22."""
    data = np.zeros((rows, len(FEATURES)))
    data[20:23, 1] = [6.0, 9.0, 6.0]
    return data.tolist()  # type: ignore[no-any-return]


# scoring


def test_a_batch_is_scored_as_the_detector_scores(make: Any) -> None:
    detector = create_detector(span=10)
    bench, values = make(detector=detector), raw(2500)
    answer = bench.score(data=values.tolist(), include_per_timestep=True)
    scores = score_rows(detector, single_group(0.0, STEP, FEATURES, values)).score
    steps = answer["per_timestep"]
    assert [step["timestep"] for step in steps] == list(range(2500))
    assert all(step["score"] is step["is_anomaly"] is None for step in steps[: LENGTH - 1])
    assert [step["score"] for step in steps[LENGTH - 1 :]] == scores.tolist()
    assert [step["is_anomaly"] for step in steps[LENGTH - 1 :]] == (scores > 1.0).tolist()
    assert (answer["n_timesteps"], answer["n_scored"]) == (2500, len(scores))
    assert answer["n_anomalies"] == (scores > 1.0).sum() > 0
    assert answer["anomaly_ratio"] == answer["n_anomalies"] / answer["n_scored"]


def test_the_whole_answer(bench: Bench) -> None:
    answer = bench.score(data=spiked())
    (segment,) = answer["anomaly_segments"]
    (blamed,) = segment.pop("attributed_dimensions")
    frame = single_group(0, STEP, FEATURES, np.array(spiked()))
    scores = score_rows(bench.running[0].detector, frame)
    own = scores.score[20 - LENGTH + 1 : 23 - LENGTH + 1]
    assert {**answer, "anomaly_segments": [segment]} == {
        "group": "promad",
        "bundle": bench.running[0].bundle.id,
        "n_timesteps": 40,
        "n_scored": 33,
        "n_features": 4,
        "threshold": 1.0,
        "threshold_method": "quantile",
        "n_anomalies": 3,
        "anomaly_ratio": 3 / 33,
        "anomaly_segments": [
            {
                "segment_start": 20,
                "segment_end": 22,
                "segment_length": 3,
                "peak_score": own.max(),
                "peak_timestamp": 21,
                "mean_score": own.mean(),
            }
        ],
        "per_timestep": None,
        "scoring_mode": None,
    }
    elevation = scores.errors[20 - LENGTH + 1 : 23 - LENGTH + 1, 1].mean() / 0.5
    assert blamed == {
        "dim": 1,
        "label": "load",
        "mean_elevation": pytest.approx(elevation),
        "contribution": 1.0,
    }


def test_attribution_can_be_left_out(bench: Bench) -> None:
    (segment,) = bench.score(data=spiked(), include_attribution=False)["anomaly_segments"]
    assert segment["attributed_dimensions"] is None


def test_the_window_alone_is_enough(bench: Bench) -> None:
    assert bench.score(data=raw(LENGTH).tolist())["n_scored"] == 1


def test_columns_may_come_in_any_order_and_keep_their_numbers(bench: Bench) -> None:
    order = [2, 0, 3, 1]
    data = np.array(spiked())[:, order].tolist()
    names = [FEATURES[column] for column in order]
    (segment,) = bench.score(data=data, features=names)["anomaly_segments"]
    (blamed,) = segment["attributed_dimensions"]
    assert (blamed["dim"], blamed["label"]) == (3, "load")


def test_conditions_are_sent_but_never_blamed(make: Any) -> None:
    queries = {name: {"expr": "up", "condition": name == FEATURES[-1]} for name in FEATURES}
    bench = make(detector=create_detector(scored=3), queries=queries)
    data = np.array(spiked())
    data[20:23, 3] = 100.0
    answer = bench.score(data=data.tolist())
    assert answer["n_features"] == 4
    labels = [
        part["label"]
        for segment in answer["anomaly_segments"]
        for part in segment["attributed_dimensions"]
    ]
    assert labels == ["load"]


def test_a_value_out_of_all_proportion_is_held_to_a_bound(bench: Bench) -> None:
    data = np.zeros((20, 4))
    data[12, 0], data[13, 0] = 1e308, -1e308
    assert math.isfinite(bench.score(data=data.tolist())["anomaly_segments"][0]["peak_score"])


class Clockwork(SingleScoringMode):
    """A model whose error is what the calendar columns hold."""

    def apply(self, windows: np.ndarray) -> Outcome:
        squares = np.repeat(np.square(windows[:, -1, -2:-1], dtype=np.float64), 4, axis=1)
        return Outcome(squares, np.zeros_like(squares), squares)


def test_the_time_of_day_counts_where_the_bundle_looks_at_it(make: Any) -> None:
    detector = create_detector(model=Clockwork(), time_features=["hour_of_day"])
    bench, data = make(detector=detector), raw(20).tolist()
    times = NOW + STEP * np.arange(20)
    at_noon = bench.score(data=data, timestamps=times.tolist(), include_per_timestep=True)
    frame = single_group(NOW, STEP, FEATURES, np.array(data))
    expected = score_rows(detector, frame).score
    assert at_noon["per_timestep"][-1]["score"] == expected[-1]
    later = bench.score(data=data, timestamps=(times + 3600).tolist(), include_per_timestep=True)
    assert later["per_timestep"][-1]["score"] != expected[-1]
    refusal = bench.client.post("/score", json={"data": data})
    assert (refusal.status_code, refusal.json()["detail"]) == (
        422,
        "timestamps is required, the bundle uses hour_of_day — send one timestamp for each row",
    )


class TwoPhases:
    """An ONNX session whose phases draw 0 and 1."""

    def run(self, names: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        drawn = np.zeros((len(inputs["window"]), 4), np.float32)
        return [drawn, drawn + 1]


def test_the_scoring_mode_of_a_tranad_bundle_is_chosen_for_one_request_alone(make: Any) -> None:
    measure = Measure(np.zeros(4, np.float32), np.ones(4, np.float32), 4)
    model = Tranad(TwoPhases(), LENGTH, -1, False, False, measure)
    bench, data = (
        make(detector=create_detector(model=model, threshold=0.1)),
        np.zeros((9, 4)).tolist(),
    )

    def peak(**mode: str) -> tuple[float, str]:
        answer = bench.score(data=data, **mode)
        return answer["anomaly_segments"][0]["peak_score"], answer["scoring_mode"]

    assert peak() == (1.0, "phase2_only")
    assert peak(scoring_mode="averaged") == (0.5, "averaged")
    assert peak(scoring_mode="phase2_only") == (1.0, "phase2_only")
    assert model.scoring_mode == "phase2_only"
    refusal = bench.client.post("/score", json={"data": data, "scoring_mode": "both"})
    assert (refusal.status_code, refusal.json()["detail"]) == (
        422,
        "scoring_mode is both — the scoring modes of the model are phase2_only, averaged",
    )


GOOD = raw(LENGTH).tolist()
OF_FOUR = "cpu, load, memory, requests"
REFUSALS: dict[str, tuple[Any, int, str]] = {
    "nothing": (
        b"",
        400,
        "the body is not valid JSON — EOF while parsing a value at line 1 column 0",
    ),
    "half": (
        b'{"data": [',
        400,
        "the body is not valid JSON — EOF while parsing a list at line 1 column 10",
    ),
    "a list": ([], 400, "the body is a list — it should be an object"),
    "no data": ({}, 400, "data is required — GET /docs describes the request"),
    "a word": ({"data": "abc"}, 400, 'data is "abc" — it should be a valid array'),
    "a string": (
        {"data": [*GOOD, [1, 2, 3, "abc"]]},
        400,
        'data[8][3] is "abc" — it should be a valid number',
    ),
    "a long string": (
        {"data": [["x" * 1000]]},
        400,
        f'data[0][0] is "{"x" * 39}… — it should be a valid number',
    ),
    "a number in quotes": (
        {"data": [["1.5"]]},
        400,
        'data[0][0] is "1.5" — it should be a valid number',
    ),
    "null": ({"data": [[None]]}, 400, "data[0][0] is null — it should be a valid number"),
    "true": ({"data": [[True]]}, 400, "data[0][0] is true — it should be a valid number"),
    "NaN": ({"data": [[math.nan]]}, 400, "data[0][0] is NaN — it should be a finite number"),
    "infinity": (
        b'{"data": [[1, 1e999]]}',
        400,
        "data[0][1] is Infinity — it should be a finite number",
    ),
    "deeper": ({"data": [[[1]]]}, 400, "data[0][0] is a list — it should be a valid number"),
    "flat": ({"data": [1, 2]}, 400, "data[0] is 1 — it should be a valid array"),
    "no rows": ({"data": []}, 400, "data has 0 items — send at least 1"),
    "empty rows": ({"data": [[]]}, 400, "data[0] has 0 items — send at least 1"),
    "too many rows": (
        {"data": [[0, 0, 0, 0]] * 20_001},
        400,
        "data has 20001 items — send at most 20000",
    ),
    "an unknown key": (
        {"data": GOOD, "store_id": 1},
        400,
        "store_id is not a known key — the keys are group, data, timestamps, features, "
        "include_per_timestep, include_attribution, scoring_mode",
    ),
    "a flag in words": (
        {"data": GOOD, "include_per_timestep": "yes"},
        400,
        'include_per_timestep is "yes" — it should be a valid boolean',
    ),
    "a mode for a model without modes": (
        {"data": GOOD, "scoring_mode": "both"},
        422,
        "scoring_mode is both, the model has no scoring modes — omit scoring_mode",
    ),
    "half a character": (
        b'{"data": [[1]], "group": "\\ud800"}',
        400,
        "the body is not valid JSON — unexpected end of hex escape at line 1 column 33",
    ),
    "an unknown group": (
        {"data": GOOD, "group": "other"},
        404,
        "no group is named other — available groups: promad",
    ),
    "too few rows": (
        {"data": GOOD[1:]},
        422,
        "data has 7 rows, a window of the bundle has 8 — send at least 8 rows",
    ),
    "too narrow": (
        {"data": [*GOOD, [1, 2, 3]]},
        422,
        f"data[8] has 3 values, the bundle has 4 features ({OF_FOUR}) "
        "— send one number for each feature",
    ),
    "too few names": (
        {"data": GOOD, "features": ["cpu", "load", "disk", "cpu"]},
        422,
        "features lacks memory, requests — list all features of the bundle",
    ),
    "too many names": (
        {"data": GOOD, "features": [*FEATURES, "cpu"]},
        422,
        f"features has 5 names, the bundle has 4 features ({OF_FOUR}) — list each once",
    ),
    "too few times": (
        {"data": GOOD, "timestamps": [NOW]},
        422,
        "timestamps has 1 item, data has 8 rows — send one timestamp for each row",
    ),
    "a gap in time": (
        {"data": GOOD, "timestamps": [0, 30, 60, 90, 180, 210, 240, 270]},
        422,
        "timestamps[4] is 90 s after the previous one, the step of the bundle is 30 s "
        "— send samples one step apart",
    ),
    "times that stand still": (
        {"data": GOOD, "timestamps": [NOW] * 8},
        422,
        "timestamps[1] is 0 s after the previous one, the step of the bundle is 30 s "
        "— send samples one step apart",
    ),
    "times in milliseconds": (
        {"data": GOOD, "timestamps": [1.75e12 + 30 * row for row in range(8)]},
        422,
        "timestamps are outside the years 1 to 9999 — send unix seconds",
    ),
    "no time at all": (
        {"data": GOOD, "timestamps": [-1e308, 1e308] * 4},
        422,
        "timestamps are outside the years 1 to 9999 — send unix seconds",
    ),
}


@pytest.mark.parametrize("what", list(REFUSALS))
def test_what_cannot_be_scored_is_refused_in_one_sentence(bench: Bench, what: str) -> None:
    body, status, detail = REFUSALS[what]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = bench.client.post("/score", content=content, headers=JSON)
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})


def test_times_may_waver_by_a_hundredth_of_the_step(bench: Bench) -> None:
    times = NOW + STEP * np.arange(LENGTH) + np.tile([0.0, 0.29], LENGTH // 2)
    assert bench.score(data=GOOD, timestamps=times.tolist())["n_scored"] == 1


def test_several_groups_have_to_be_named(make: Any) -> None:
    bench = make(groups=create_groups(7))
    refusal = bench.client.post("/score", json={"data": GOOD})
    assert refusal.status_code == 400
    assert refusal.json()["detail"].startswith(
        'group is required — available groups: promad{instance="host'
    )
    assert refusal.json()["detail"].endswith(" and 2 more, see GET /api/v1/groups")
    name = 'promad{instance="host-0003:9100", job="node"}'
    assert bench.score(data=GOOD, group=name)["group"] == name


def test_a_million_mistakes_are_refused_as_fast_as_one(bench: Bench) -> None:
    bodies = [
        b'{"data": [[' + b'"a",' * 1_000_000 + b"1]]}",
        b'{"data": [[1]], "features": [' + b"1," * 1_000_000 + b"1]}",
        json.dumps({f"key{number}": 1 for number in range(300_000)} | {"data": [[1]]}).encode(),
    ]
    for body in bodies:
        began = time.process_time()
        answer = bench.client.post("/score", content=body, headers=JSON)
        assert answer.status_code == 400
        assert len(answer.content) < 300
        assert time.process_time() - began < 2


def test_before_anything_is_at_work_nothing_is_scored() -> None:
    answer = client_of([]).post("/score", json={"data": GOOD})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json() == {
        "detail": "no detector is running yet — wait until GET /health returns ready"
    }


# limits


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_only_json_is_taken(bench: Bench, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answer = bench.client.post("/score", content=b'{"data": [[1]]}', headers=headers)
    assert answer.status_code == 415
    assert answer.json()["detail"].endswith("— send application/json")


def test_json_may_name_its_encoding(bench: Bench) -> None:
    answer = bench.client.post(
        "/score",
        content=json.dumps({"data": GOOD}),
        headers={"content-type": "Application/JSON; charset=utf-8"},
    )
    assert answer.status_code == 200


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with serve_detectors(create_running_detectors(tmp_path)) as address:
        yield address


@pytest.mark.parametrize("announced", [True, False])
def test_ten_megabytes_are_refused_and_no_harm_is_done(url: str, announced: bool) -> None:
    parts = [b"[" * 2**20] * 10
    body = b"".join(parts) if announced else iter(parts)
    answer = requests.post(f"{url}/score", data=body, headers=JSON, timeout=20)
    assert (answer.status_code, answer.json()["detail"]) == (
        413,
        "the body is larger than 8 MiB — send fewer rows per request",
    )
    assert requests.get(f"{url}/health", timeout=5).status_code == 200


def test_a_body_has_to_arrive_in_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.2)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as slow:
        slow.sendall(
            b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b'Content-Length: 100\r\n\r\n{"data":'
        )
        answer = slow.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 408 ")


def test_a_client_that_leaves_in_the_middle_is_no_error(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as gone:
        gone.sendall(
            b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b'Content-Length: 100\r\n\r\n{"data":'
        )
        time.sleep(0.2)
    time.sleep(0.2)
    assert requests.get(f"{url}/health", timeout=5).status_code == 200
    assert caplog.records == []


@dataclass
class Waiting(SingleScoringMode):
    """A model that scores once it is let."""

    go: threading.Event = field(default_factory=threading.Event)
    model: ExpectsNothing = field(default_factory=lambda: ExpectsNothing(len(FEATURES)))
    most_at_once: int = 0
    _at_once: int = 0

    def apply(self, windows: np.ndarray) -> Outcome:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        self.go.wait(60)
        self._at_once -= 1
        return self.model.apply(windows)


def test_a_few_are_scored_at_once_a_few_wait_and_the_rest_are_sent_away(tmp_path: Path) -> None:
    model, places = Waiting(), SCORED_AT_ONCE + WAITING
    running = create_running_detectors(tmp_path, detector=create_detector(model=model))
    with serve_detectors(running) as url, ThreadPoolExecutor(places + 1) as pool:

        def post() -> requests.Response:
            return requests.post(f"{url}/score", json={"data": GOOD}, timeout=60)

        asked = [pool.submit(post) for _ in range(places + 1)]
        first, others = wait(asked, return_when=FIRST_COMPLETED)
        for path in ("metrics", "api/v1/groups"):
            assert requests.get(f"{url}/{path}", timeout=10).status_code == 200
        model.go.set()
        turned_away = first.pop().result()
        assert [one.result().status_code for one in others] == [200] * places
        assert post().status_code == 200
    assert (turned_away.status_code, turned_away.headers["retry-after"]) == (503, "1")
    assert turned_away.json() == {"detail": "too many scoring requests — retry later"}
    assert model.most_at_once == SCORED_AT_ONCE


def test_scoring_gives_up_in_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "SECONDS", -1.0)
    answer = bench.client.post("/score", json={"data": GOOD})
    assert answer.status_code == 503
    assert answer.json()["detail"] == (
        "scoring took longer than -1 s (0 of 8 rows scored) — send fewer rows per request"
    )


# state


def test_health_is_starting_until_there_is_something_to_score_with(bench: Bench) -> None:
    starting = client_of([]).get("/health")
    assert (starting.status_code, starting.json()["status"]) == (503, "starting")
    bundle = bench.running[0].bundle.id
    assert bench.get("/health") == {"status": "ready", "available": [bundle], "loaded": [bundle]}


def test_every_bundle_is_listed_but_those_that_are_damaged(bench: Bench) -> None:
    (served,) = bench.running
    folder = served.config.artifacts_dir / "bundles"
    older = create_bundle(folder, served.config, model="tranad", created=NOW - 86400)
    for name, content in {"1-a": "{", "2-b": '{"format": 2}', "3-c": ""}.items():
        (folder / name).mkdir()
        (folder / name / "manifest.json").write_text(content)
    (folder / "4-d").mkdir()
    listed = bench.get("/models")
    assert [each["bundle"] for each in listed] == [older.id, served.bundle.id]
    assert [(each["current"], each["loaded"]) for each in listed] == [(False, False), (True, True)]
    assert listed[0] == {
        "detector": "promad",
        "bundle": older.id,
        "model": "tranad",
        "preset": "improved",
        "trained_at": "2025-06-14T15:07:00+00:00",
        "n_features": 4,
        "threshold": 1.0,
        "threshold_method": "quantile",
        "current": False,
        "loaded": False,
    }


def test_the_configuration_says_what_is_loaded(bench: Bench) -> None:
    (loaded,) = bench.get("/config")
    assert loaded["features"] == list(FEATURES)
    assert (loaded["window_size"], loaded["step_seconds"], loaded["device"]) == (8, 30.0, "cpu")
    assert (loaded["threshold"], loaded["n_features"]) == (1.0, 4)
    assert loaded["config"]["queries"]["cpu"]["expr"] == "avg(cpu)"


def test_no_secret_leaves_the_daemon(make: Any) -> None:
    secrets = [f"hush{number}" for number in range(11)]
    token_url = "https://sso.example/token"
    client = {"client_id": "client", "client_secret": secrets[7], "token_url": token_url}
    bench = make(
        prometheus={
            "basic_auth": {"username": "reader", "password": secrets[0]},
            "authorization": {"credentials": secrets[1]},
            "http_headers": {"X-Key": {"secrets": secrets[2:4], "values": ["shown"]}},
            "proxy_url": f"http://{secrets[4]}:{secrets[5]}@proxy.example:3128",
            "oauth2": {**client, "proxy_url": f"http://{secrets[8]}:{secrets[9]}@proxy.example"},
            "sigv4": {"access_key": "key", "secret_key": secrets[10]},
        },
        web={"runbook_url": f"https://me:{secrets[6]}@wiki.example/page"},
    )
    answer = bench.client.get("/config").text
    assert "hush" not in answer
    for shown in ("reader", "shown", "http://**********@proxy.example:3128"):
        assert shown in answer


# groups


def test_groups_come_worst_first(make: Any) -> None:
    bench = make(groups=create_groups(9), states=list(State))
    answer = bench.get("/api/v1/groups")
    assert (answer["now"], len(answer["groups"])) == (NOW, 9)
    states = [group["state"] for group in answer["groups"]]
    assert states == ["anomalous"] * 2 + ["blind"] * 2 + ["warming"] * 3 + ["ok"] * 2
    for state in ("anomalous", "ok"):
        scores = [each["score"] for each in answer["groups"] if each["state"] == state]
        assert scores == sorted(scores, reverse=True)
    assert {each["score"] for each in answer["groups"] if each["state"] == "blind"} == {None}


def test_one_group_in_the_list(bench: Bench) -> None:
    (group,) = bench.get("/api/v1/groups")["groups"]
    assert group == {
        "group": "promad",
        "detector": "promad",
        "labels": {},
        "state": "anomalous",
        "why": "",
        "at": NOW,
        "score": 2.0,
        "anomalous_since": NOW - STEP * (ODD_SAMPLES - 1),
        "event": bench.running[0].snapshot().groups[0].event.id,  # type: ignore[union-attr]
        "events_begun": 3,
        "last_scored_at": NOW,
        "samples_in_window": LENGTH,
        "top_features": ["cpu", "load", "memory"],
        "calibration": "own",
        "muted_by": None,
    }


def test_groups_can_be_chosen_by_state_and_cut_short(make: Any) -> None:
    bench = make(groups=create_groups(8), states=list(State))
    blind = bench.get("/api/v1/groups", state="blind")["groups"]
    assert {group["state"] for group in blind} == {"blind"}
    assert len(bench.get("/api/v1/groups", limit=3)["groups"]) == 3
    assert bench.refused("/api/v1/groups", state="odd") == (
        400,
        "state is \"odd\" — it should be 'warming', 'ok', 'anomalous' or 'blind'",
    )


def test_a_thousand_groups_are_listed_in_no_time(make: Any) -> None:
    bench = make(groups=create_groups(1000), states=list(State), samples=12, features=FEATURES[:2])
    bench.get("/api/v1/groups")
    began = time.process_time()
    groups = bench.get("/api/v1/groups")["groups"]
    assert time.process_time() - began < 1
    assert len({group["group"] for group in groups}) == 1000
    page = bench.get("/api/v1/events", limit=1000, open="true")["events"]
    assert len(page) == 250


def test_a_group_in_detail(make: Any) -> None:
    bench = make(
        groups=create_groups(2),
        states=[State.OK, State.BLIND],
        web={"prometheus_url": "http://seen.example", "grafana_url": "http://grafana.example"},
    )
    name = 'promad{instance="host-0001:9100", job="node"}'
    detail = bench.get("/api/v1/group", group=name)
    assert detail["group"]["labels"] == {"instance": "host-0001:9100", "job": "node"}
    assert detail["failed_queries"] == {"cpu": "timeout after 10 s"}
    assert detail["queries"][0] == {
        "name": "cpu",
        "expr": "avg(cpu)",
        "scored": True,
        "counts": "",
        "direction": "both",
        "min_deviation": [0.0, 0.0],
        "min_relative_deviation": [0.0, 0.0],
        "valid_range": None,
        "outside": "missing",
        "weight": 1.0,
    }
    assert (detail["step_seconds"], detail["window_size"]) == (STEP, LENGTH)
    assert (detail["prometheus_url"], detail["grafana_url"]) == (
        "http://seen.example",
        "http://grafana.example",
    )
    assert detail["explanation"]["paragraph"] == "Blind: query cpu failed: timeout."
    assert bench.refused("/api/v1/group", group="promad{}")[0] == 404


# history and explanation


def test_history_is_what_the_ring_keeps_with_null_for_what_is_not_known(bench: Bench) -> None:
    answer = bench.get("/api/v1/history")
    assert answer["times"] == (NOW - STEP * np.arange(39, -1, -1)).tolist()
    assert answer["states"][17:20] == ["blind"] * 3
    assert answer["score"][17:20] == [None] * 3
    assert answer["states"][-ODD_SAMPLES:] == ["anomalous"] * ODD_SAMPLES
    assert answer["score"][-1] == 2.0
    assert answer["why"][17] == "query cpu failed: timeout"
    assert [feature["name"] for feature in answer["features"]] == list(FEATURES)
    cpu, *_, without_sample = answer["features"]
    assert cpu["observed"][-1] == 12.0
    assert cpu["observed"][18] is cpu["elevation"][18] is None
    assert set(without_sample["observed"]) == {None}
    assert without_sample["expected"][-1] == 40.0


def test_history_can_be_cut_in_time_and_to_features(bench: Bench) -> None:
    answer = bench.get("/api/v1/history", start=NOW - 90, end=NOW - 30, features="load,cpu")
    assert answer["times"] == [NOW - 90, NOW - 60, NOW - 30]
    assert [feature["name"] for feature in answer["features"]] == ["cpu", "load"]
    assert bench.get("/api/v1/history", features="")["features"] == []
    iso = bench.get("/api/v1/history", start="2025-06-15T17:06:30+02:00")
    assert iso["times"] == [NOW - 30, NOW]
    assert bench.get("/api/v1/history", start=NOW + 1)["times"] == []
    assert bench.refused("/api/v1/history", features="cpu,disk") == (
        404,
        f"no feature is named disk — available features: {OF_FOUR}",
    )


def test_a_name_with_a_comma_can_be_asked_for() -> None:
    known = ("read, MB/s", "b", "b,c", "c")
    parse = groups_api._parse_names
    assert parse("read, MB/s", known) == {"read, MB/s"}
    assert parse("b,read, MB/s,c", known) == {"b", "read, MB/s", "c"}
    assert parse("b,c", known) == {"b,c"}
    assert parse("c,b,", known) == {"c", "b"}


def test_numbers_in_the_history_are_as_short_as_they_are_exact(bench: Bench) -> None:
    (served,) = bench.running
    recent = served.histories["promad"].between()
    answer = bench.get("/api/v1/history")
    for column, feature in enumerate(answer["features"]):
        shown = np.array(feature["contribution"], np.float64)
        np.testing.assert_allclose(shown, recent.contribution[:, column], rtol=5e-7)
        assert max(len(repr(number)) for number in feature["contribution"]) <= 10


def test_a_group_is_explained_as_it_stands(bench: Bench) -> None:
    answer = bench.get("/api/v1/explain")
    assert (answer["state"], answer["score"], answer["at"]) == ("anomalous", 2.0, NOW)
    assert answer["anomalous_since"] == NOW - STEP * (ODD_SAMPLES - 1)
    assert answer["paragraph"].startswith(
        "Score: 2× the threshold; anomalous since 2025-06-15T15:02:30Z. cpu: 53% of the deviation"
    )
    assert [feature["name"] for feature in answer["features"]] == list(FEATURES)
    assert answer["features"][0]["direction"] == "above"
    assert answer["features"][-1]["direction"] is answer["features"][-1]["observed"] is None


@pytest.mark.parametrize("at", [NOW - 4 * STEP + 10, "2025-06-15T15:05:10Z"])
def test_the_past_is_explained_by_the_newest_sample_not_after_it(bench: Bench, at: Any) -> None:
    answer = bench.get("/api/v1/explain", at=at)
    assert answer["at"] == NOW - 4 * STEP
    assert answer["state"] == "anomalous"
    assert answer["anomalous_since"] == NOW - STEP * (ODD_SAMPLES - 1)
    assert answer["score"] == pytest.approx(1.6)
    quiet = bench.get("/api/v1/explain", at=NOW - 15 * STEP)
    assert (quiet["state"], quiet["anomalous_since"]) == ("ok", None)
    assert bench.get("/api/v1/explain", at=NOW + 1e6)["at"] == NOW


def test_what_is_too_long_ago_is_for_the_command_line(make: Any) -> None:
    assert make().refused("/api/v1/explain", at="2025-06-15T10:00:00Z") == (
        404,
        "no sample of promad at 2025-06-15T10:00:00Z in memory (available: "
        "2025-06-15T14:47:30Z to 2025-06-15T15:07:00Z) — promad explain --at "
        "2025-06-15T10:00:00Z reads older samples from Prometheus",
    )


@pytest.mark.parametrize(
    ("at", "detail"),
    [
        ("noon", 'at is "noon", not a time — write it like 2026-11-22T06:00:00Z'),
        ("nan", 'at is "nan", not a time between the years 1 and 9999 — use unix seconds'),
        ("1e300", 'at is "1e300", not a time between the years 1 and 9999'),
        ("", 'at is "", not a time — write it like'),
    ],
)
def test_a_time_is_unix_seconds_or_rfc_3339(bench: Bench, at: str, detail: str) -> None:
    status, said = bench.refused("/api/v1/explain", at=at)
    assert (status, said[: len(detail)]) == (400, detail)


# events


def test_an_event_has_its_peak_in_plain_words(bench: Bench) -> None:
    newest, *older = bench.get("/api/v1/events")["events"]
    assert bench.get(f"/api/v1/events/{newest['id']}") == newest
    assert (newest["open"], newest["end"], newest["end_reason"]) == (True, None, None)
    assert (newest["peak_at"], newest["peak_score"]) == (NOW, 2.0)
    assert newest["paragraph"].startswith("Score: 2× the threshold; anomalous since")
    assert newest["features"][0]["name"] == "cpu"
    assert [(event["open"], event["end_reason"]) for event in older] == [(False, "quiet")] * 2
    assert bench.refused("/api/v1/events/nonesuch") == (
        404,
        "no event has the id nonesuch — GET /api/v1/events lists all events",
    )


def test_events_of_all_detectors_come_newest_first_a_page_at_a_time(make: Any) -> None:
    bench = make(names=BOTH, groups=create_groups(5))
    whole = bench.get("/api/v1/events", limit=1000)
    assert whole["next"] is None
    assert len(whole["events"]) == 2 * 5 * 3
    order = [(event["start"], event["id"]) for event in whole["events"]]
    assert order == sorted(order, reverse=True)
    paged, cursor = [], None
    while cursor is not None or not paged:
        page = bench.get("/api/v1/events", limit=7, **({"cursor": cursor} if cursor else {}))
        paged += page["events"]
        cursor = page["next"]
    assert paged == whole["events"]


def test_events_can_be_chosen(make: Any) -> None:
    bench = make(names=BOTH)
    assert {event["group"] for event in bench.get("/api/v1/events", group="db")["events"]} == {"db"}
    assert bench.get("/api/v1/events", group="gone")["events"] == []
    assert all(event["open"] for event in bench.get("/api/v1/events", open="true")["events"])
    assert not any(event["open"] for event in bench.get("/api/v1/events", open="false")["events"])
    long_ago = bench.get("/api/v1/events", start=NOW - 31 * 3600, end=NOW - 29 * 3600)["events"]
    assert {event["start"] for event in long_ago} == {NOW - 30 * 3600}


@pytest.mark.parametrize(
    "params", [{"limit": 0}, {"limit": 1001}, {"open": "perhaps"}, {"cursor": "x"}, {"start": "x"}]
)
def test_a_parameter_that_makes_no_sense_is_named(bench: Bench, params: dict[str, Any]) -> None:
    status, detail = bench.refused("/api/v1/events", **params)
    assert status == 400
    assert detail.startswith(f'{next(iter(params))} is "')


def test_a_log_that_cannot_be_read_is_a_sentence_too(bench: Bench) -> None:
    bench.running[0].events.close()
    answer = bench.client.get("/api/v1/events")
    assert answer.status_code == 503
    assert "events.db: cannot be used" in answer.json()["detail"]


# incidents


@pytest.fixture
def incidents(bench: Bench) -> Bench:
    """With an incident of two groups that is over, and one of a single group that is open."""
    book, log = IncidentBook(RULES), bench.running[0].events
    events = [
        make_event(0, 600, 3.0, {"cpu": 0.5, "load": 0.5}, instance="a", rack="x"),
        make_event(60, 1200, instance="b", rack="x"),
        make_event(7200, None, instance="c", rack="y"),
    ]
    for changes in enter(book, report(events), {(): Watched(40)}):
        log.record_many("b1", incidents=changes.incidents)
    return bench


def test_an_incident_has_its_spread_its_first_group_and_a_paragraph(incidents: Bench) -> None:
    newest, oldest = incidents.get("/api/v1/incidents")["incidents"]
    assert (newest["open"], newest["groups"], newest["start"]) == (True, 1, 7200.0)
    assert newest["paragraph"].startswith(
        'instance="c", rack="y": Score: 4× the threshold; anomalous since'
    )
    assert oldest == {
        "id": oldest["id"],
        "detector": "d",
        "scope": {},
        "start": 0.0,
        "flagged_at": 30.0,
        "end": 1200.0,
        "open": False,
        "groups": 2,
        "open_groups": 0,
        "groups_watched": 40,
        "spread": 0.05,
        "feature_share": 0.5,
        "first_group": 'd{instance="a", rack="x"}',
        "first_labels": {"instance": "a", "rack": "x"},
        "peak_group": 'd{instance="a", rack="x"}',
        "peak_at": 60.0,
        "peak_score": 6.0,
        "common_labels": {"rack": "x"},
        "leading_features": [
            {"name": "cpu", "contribution": 0.7, "groups": 2},
            {"name": "load", "contribution": 0.3, "groups": 1},
        ],
        "bundle": "b1",
        "paragraph": "2 of 40 groups deviated from 1970-01-01T00:00:00Z to 1970-01-01T00:20:00Z "
        '(first: instance="a", rack="x"). Leading features: cpu (2 groups), load (1). '
        'In common: rack="x".',
        "muted": None,
        "unmuted_at": None,
        "marker": None,
    }


def test_one_incident_comes_with_its_groups_earliest_onset_first(incidents: Bench) -> None:
    oldest = incidents.get("/api/v1/incidents", open="false")["incidents"][0]
    detail = incidents.get(f"/api/v1/incidents/{oldest['id']}")
    assert detail["incident"] == oldest
    first, second = detail["members"]
    assert (first["labels"], first["onset"], first["end"]) == (
        {"instance": "a", "rack": "x"},
        0.0,
        600.0,
    )
    assert (second["open"], second["events"], second["peak_score"]) == (False, 1, 4.0)
    assert [feature["name"] for feature in first["features"]] == ["cpu", "load"]
    assert incidents.refused("/api/v1/incidents/nonesuch") == (
        404,
        "no incident has the id nonesuch — GET /api/v1/incidents lists all incidents",
    )


def test_incidents_can_be_chosen_and_come_a_page_at_a_time(incidents: Bench) -> None:
    def starts(**params: Any) -> list[float]:
        return [each["start"] for each in incidents.get("/api/v1/incidents", **params)["incidents"]]

    assert starts(open="true") == [7200.0]
    assert starts(group='d{instance="b", rack="x"}') == [0.0]
    assert starts(end=7199) == [0.0]
    page = incidents.get("/api/v1/incidents", limit=1)
    assert starts(limit=1, cursor=page["next"]) == [0.0]
    assert incidents.refused("/api/v1/incidents", limit=0)[0] == 400


# all of it


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/api/v1/nothing", 404, "/api/v1/nothing does not exist — GET /docs lists"),
        ("DELETE", "/api/v1/groups", 405, "/api/v1/groups does not support DELETE — use GET"),
        ("GET", "/score", 405, "/score does not support GET — use POST"),
        ("POST", "/metrics", 405, "/metrics does not support POST — use"),
        ("GET", "/health/", 404, "/health/ does not exist"),
    ],
)
def test_a_wrong_turn_is_a_sentence(
    bench: Bench, method: str, path: str, status: int, detail: str
) -> None:
    answer = bench.client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["detail"].startswith(detail)


def test_an_error_that_nobody_foresaw_is_named_and_no_more(bench: Bench) -> None:
    def broken() -> Any:
        raise ZeroDivisionError("a password")

    running = [replace(bench.running[0], snapshot=broken)]
    answer = client_of(running, raise_server_exceptions=False).get("/api/v1/groups")
    assert answer.status_code == 500
    assert answer.json() == {"detail": "internal error (ZeroDivisionError) — see the log of promad"}
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/health", "/metrics", "/docs", "/docs/init.js", "/openapi.json", "/", "/nothing"]
)
def test_every_answer_tells_the_browser_to_be_careful(bench: Bench, path: str) -> None:
    headers = bench.client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/metrics", "/config", "/api/v1/groups", "/score"])
def test_no_page_of_another_site_may_read_a_response(bench: Bench, path: str) -> None:
    headers = {"Origin": "https://other.example", "Access-Control-Request-Method": "POST"}
    for method in ("GET", "OPTIONS"):
        answer = bench.client.request(method, path, headers=headers)
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("path", ["/health", "/api/v1/groups", "/docs", "/metrics"])
def test_head_is_get_without_a_body(url: str, path: str) -> None:
    answer = requests.head(url + path, timeout=5)
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


def test_the_docs_are_served_whole_and_from_here_alone(bench: Bench) -> None:
    page = bench.client.get("/docs").text
    links = [part.split('"')[1] for part in page.split("=")[1:] if part.startswith('"docs/')]
    assert len(links) == 4
    for link in links:
        assert bench.client.get(f"/{link}").status_code == 200
    assert "http" not in page
    assert "<script>" not in page
    assert "<style" not in page
    assert bench.client.get("/docs/__init__.py").status_code == 404


def test_the_description_is_served_and_printed_alike(bench: Bench) -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "promad", "openapi"], capture_output=True, check=True, text=True
    )
    described = json.loads(printed.stdout)
    assert described == bench.get("/openapi.json")
    body = described["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["required"] == ["data"]
    assert body["schema"]["properties"]["data"]["maxItems"] == 20_000


def test_the_api_keeps_what_is_heavy_out_of_the_daemon() -> None:
    code = (
        "import sys, promad.stages.detect; from promad.web.app import description; description()\n"
        "heavy = {'pandas', 'pyarrow', 'tensorflow', 'plotly', 'fastapi_swagger', 'onnxruntime'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    light = "import sys, promad.cli; assert 'fastapi' not in sys.modules"
    subprocess.run([sys.executable, "-c", light], check=True)


def test_a_detector_is_used_and_never_changed(bench: Bench) -> None:
    detector: Detector = bench.running[0].detector
    before = repr(detector)
    assert bench.score(data=spiked()) == bench.score(data=spiked())
    assert repr(detector) == before


def test_the_example_in_the_documentation_is_true(bench: Bench) -> None:
    text = (Path(__file__).parents[2] / "docs/api.md").read_text()
    example = text.partition("```console")[2].partition("```")[0]
    asked, answered = example.partition("-d '")[2].split("'\n")
    actual = bench.score(**json.loads(asked))
    (segment,) = actual["anomaly_segments"]
    for numbers in (segment, *segment["attributed_dimensions"]):
        numbers |= {name: round(n, 4) for name, n in numbers.items() if isinstance(n, float)}
    segment |= {name: round(segment[name], 3) for name in ("peak_score", "mean_score")}
    assert actual == json.loads(answered)


# markers


@pytest.fixture
def deployed(make: Any) -> Bench:
    """With two versions before the open event of the only group, and one of another group."""
    markers = [{"name": "api", "query": "max by (version) (build_info)", "within": "1h"}]
    bench: Bench = make(markers=markers)
    start = bench.get("/api/v1/events", open="true")["events"][0]["start"]
    found = [
        Marker("api", "1.4.1", start - 3000),
        Marker("api", "1.4.2", start - 120),
        Marker("api", "1.4.3", start - 60, (("instance", "elsewhere"),)),
    ]
    bench.running[0].events.record_markers("api", start, found, {})
    return bench


def test_an_event_names_the_version_that_was_deployed_before_it(deployed: Bench) -> None:
    (event,) = deployed.get("/api/v1/events", open="true")["events"]
    assert (event["marker"]["name"], event["marker"]["version"]) == ("api", "1.4.2")
    assert event["paragraph"].endswith(" Began 2m after api 1.4.2.")
    assert deployed.get(f"/api/v1/events/{event['id']}") == event


def test_markers_are_listed_newest_first_and_for_a_group(deployed: Bench) -> None:
    everything = deployed.get("/api/v1/markers")["markers"]
    assert [each["version"] for each in everything] == ["1.4.3", "1.4.2", "1.4.1"]
    assert everything[0]["labels"] == {"instance": "elsewhere"}
    own = deployed.get("/api/v1/markers", group="promad", start=everything[1]["at"])["markers"]
    assert [each["version"] for each in own] == ["1.4.2"]
    assert deployed.get("/api/v1/markers", limit=1)["markers"] == everything[:1]
    assert deployed.refused("/api/v1/markers", group="nobody")[0] == 404


def test_an_incident_names_the_version_too(make: Any) -> None:
    bench: Bench = make(markers=[{"name": "api", "query": "x"}])
    log, book = bench.running[0].events, IncidentBook(RULES)
    for changes in enter(book, report([make_event(7200, None, instance="c", rack="y")])):
        log.record_many("b1", incidents=changes.incidents)
    log.record_markers("api", 1.0, [Marker("api", "2", 7080.0)], {})
    (incident,) = bench.get("/api/v1/incidents")["incidents"]
    assert incident["paragraph"].endswith(" Began 2m after api 2.")
    detail = bench.get(f"/api/v1/incidents/{incident['id']}")["incident"]
    assert detail == incident
    assert incident["marker"] == {"name": "api", "version": "2", "at": 7080.0, "labels": {}}
