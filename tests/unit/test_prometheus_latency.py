"""`latency_offset: auto` reads behind the values that a server merely repeats."""

import pytest
import structlog

from promad.cli.commands.check_config import format_latency
from promad.config import PrometheusSettings
from promad.errors import UnreachableError
from promad.prometheus import PrometheusClient
from promad.prometheus.checking import LatencyCheck, inspect_latency
from promad.prometheus.latency import (
    AutomaticOffset,
    ask_latency_offset,
    make_find_offset,
    measure_repetition,
)
from tests.support.prometheus_stub import Say, curves, stub_server

NOW = 900_000.4


def repeating(seconds, answered_at=NOW):
    """A server that repeats the last value for that many of its newest seconds."""
    return curves({"time()": [({}, lambda t: min(t, int(answered_at) - seconds))]})


def client_of(stub):
    return PrometheusClient(stub.url, PrometheusSettings(timeout="2s"), retries=0)


@pytest.mark.parametrize(("seconds", "repeated", "offset"), [(0, 0, 10), (30, 31, 35), (5, 6, 10)])
def test_the_offset_is_longer_than_what_is_repeated(seconds, repeated, offset):
    with stub_server(repeating(seconds)) as stub, client_of(stub) as client:
        assert measure_repetition(client, NOW) == repeated
        assert make_find_offset(client, "auto", "web")(NOW) == offset
        assert inspect_latency(client, "auto", NOW) == LatencyCheck(offset, repeated)
        assert ask_latency_offset(stub.url, PrometheusSettings(), "auto", NOW) == offset


def test_a_duration_is_taken_as_it_is():
    with stub_server(repeating(30)) as stub:
        assert ask_latency_offset(stub.url, PrometheusSettings(), 20.0, NOW) == 20.0
    assert stub.asked == []


@pytest.mark.parametrize("say", [Say(422), Say(400), Say()])
def test_a_server_that_does_not_know_the_question_repeats_nothing(say):
    with stub_server(lambda _: say) as stub, client_of(stub) as client:
        find = make_find_offset(client, "auto", "web")
        assert [find(NOW), find(NOW + 30)] == [10.0, 10.0]
    assert len(stub.asked) == 1


def test_a_server_that_does_not_answer_is_asked_again():
    says = [Say(hang_up=True), Say(503), repeating(30)]
    with stub_server(lambda a: s(a) if callable(s := says.pop(0)) else s) as stub:
        find = make_find_offset(client_of(stub), "auto", "web")
        assert [find(NOW), find(NOW), find(NOW)] == [10.0, 10.0, 35.0]


def test_the_server_is_asked_every_ten_minutes_and_small_changes_are_ignored():
    repeated = {NOW: 30, NOW + 600: 31, NOW + 1200: 0}
    at = [NOW]
    with (
        structlog.testing.capture_logs() as logs,
        stub_server(lambda asked: repeating(repeated[at[0]], at[0])(asked)) as stub,
    ):
        offset = AutomaticOffset(client_of(stub), "web")
        found = []
        for now in repeated:
            at[0] = now
            found += [offset.find(now), offset.find(now + 599)]
    assert found == [35, 35, 35, 35, 10, 10]
    assert len(stub.asked) == 3
    assert [(line["event"], line["detector"], line["seconds"]) for line in logs] == [
        ("latency offset chosen", "web", 35.0),
        ("latency offset chosen", "web", 10.0),
    ]


def test_what_fails_names_the_key():
    with stub_server(lambda _: Say(hang_up=True)) as stub, client_of(stub) as client:
        with pytest.raises(UnreachableError, match="latency_offset: auto: "):
            measure_repetition(client, NOW)
        assert inspect_latency(client, "auto", NOW) == LatencyCheck(10.0, None)
        assert ask_latency_offset(stub.url, PrometheusSettings(), "auto", NOW) == 10.0


def test_check_config_shows_the_offset_and_warns_of_one_that_is_too_short():
    assert format_latency(LatencyCheck(10.0, 0.0), "auto") == "  latency_offset: 10s (auto)"
    assert format_latency(LatencyCheck(20.0, 0.0), 20.0) == "  latency_offset: 20s"
    assert format_latency(LatencyCheck(35.0, 31.0), "auto") == (
        "  latency_offset: 35s (auto); the server repeats values for its newest 31s"
    )
    assert format_latency(LatencyCheck(10.0, 31.0), 10.0) == (
        "  latency_offset: warning: is 10s, but the server repeats values for its newest 31s "
        "— set latency_offset: auto"
    )
