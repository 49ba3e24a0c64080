"""Answers far larger than what was asked for are refused early, with what they show."""

import gzip
import tracemalloc
from collections.abc import Mapping

import pytest

from promad.config import PrometheusSettings
from promad.errors import PrometheusError
from promad.prometheus import PrometheusClient
from promad.prometheus.grid import Span
from promad.prometheus.marks import fetch_marks
from tests.support.prometheus_stub import Say, stub_server

HEAD = '{"status":"success","data":{"resultType":"matrix","result":['
LARGE_BYTES = 40 * 2**20


def answer(series: int, points: int = 1, label: str = "") -> str:
    samples = ",".join(f'[{15 * i},"0.25"]' for i in range(points))
    items = (f'{{"metric":{{"pod":"{i}{label}"}},"values":[{samples}]}}' for i in range(series))
    return f"{HEAD}{','.join(items)}]}}}}"


def ask(body: str | bytes, headers: Mapping[str, str]):
    with (
        stub_server([Say(body=body, headers=headers)]) as stub,
        PrometheusClient(stub.url, PrometheusSettings(), retries=0) as client,
    ):
        return client.query_range("up", 0.0, 600.0, 15.0)


def failure(body: str | bytes, **headers: str) -> PrometheusError:
    with pytest.raises(PrometheusError) as caught:
        ask(body, headers)
    return caught.value


def test_many_series_are_refused_by_their_first_labels():
    error = failure(answer(series=1000))
    assert error.reason == "several_series"
    assert str(error) == (
        'up: more than 100 series, expected one: {pod="0"}, {pod="1"}, {pod="2"}, {pod="3"}, '
        '{pod="4"} and others — aggregate with sum(up) or avg(up), or add label matchers'
    )


def test_more_series_than_may_be_read_are_refused_before_their_end():
    error = failure(answer(series=60_000, label="x" * 50))
    assert error.reason == "several_series"
    assert 'series, expected one: {pod="0xxx' in str(error)
    assert 1000 < int(str(error).split()[3]) < 59_000


@pytest.mark.parametrize("piece", ["[]", '[0,"1"]', '{"metric":{}}'])
def test_a_body_larger_than_its_request_can_need_is_not_read_to_its_end(piece):
    body = HEAD + ",".join([piece] * (LARGE_BYTES // len(piece)))
    tracemalloc.start()
    try:
        error = failure(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "response larger than 4.64 MiB — aggregate the expression" in str(error)
    assert peak < 2 * LARGE_BYTES  # with the server's own copies


def test_a_small_body_that_unpacks_to_a_large_one_is_not_unpacked_to_its_end():
    packed = gzip.compress(b" " * LARGE_BYTES)
    assert len(packed) < LARGE_BYTES / 500
    tracemalloc.start()
    try:
        error = failure(packed, **{"Content-Encoding": "gzip"})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "response larger than 4.64 MiB — aggregate the expression" in str(error)
    assert peak < LARGE_BYTES / 2


def test_an_expression_that_marks_samples_may_have_many_series():
    with (
        stub_server([Say(body=answer(series=2000))]) as stub,
        PrometheusClient(stub.url, PrometheusSettings(), retries=0) as client,
    ):
        marked = fetch_marks(client, ["up == 1"], [Span(0.0, 600.0)], 15.0)
    assert marked.points == 2000
