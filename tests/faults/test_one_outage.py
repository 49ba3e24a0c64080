"""One outage is reported once: in the daemon's log and by each command."""

import pytest
import structlog

from promad.cli.app import main
from promad.cli.commands.check_config import run_check
from promad.config import Config, PrometheusSettings
from promad.detection.server_log import ServerLog
from promad.errors import BusyError, PrometheusError, UnreachableError
from promad.prometheus import Poller, PrometheusClient, fetch_history
from tests.support.prometheus_stub import Say, curves, stub_server

QUERIES = {"a": "rate(a[1m])", "b": "rate(b[1m])", "c": "rate(c[1m])"}
FINE = curves({expr: [({}, lambda t: t % 7)] for expr in QUERIES.values()})
NOW = 1_000_000.0
SERVER = "http://prometheus.example"


class Story:
    """A log that is told of one poll after the other, a minute apart."""

    def __init__(self):
        self.now = NOW
        self.log = ServerLog(structlog.get_logger(), SERVER)

    def tell(self, failures=(), queries=3, clock=None):
        """The lines about a poll."""
        with structlog.testing.capture_logs() as lines:
            self.log.report_failures(dict(failures), queries, self.now)
            self.log.report_clock(clock, 10.0)
        self.now += 60.0
        return lines


def hit(error, aliases="abc"):
    """Every query fails by the same fault."""
    return {
        alias: type(error)(f"query {alias}: {error}", error.reason, error.fault)
        for alias in aliases
    }


def test_an_outage_is_one_line_and_its_end_another():
    story = Story()
    gone = UnreachableError(f"{SERVER}: connection failed")
    (line,) = story.tell(hit(gone))
    assert line == {
        "event": "query failed",
        "log_level": "warning",
        "server": SERVER,
        "queries": 3,
        "since": "1970-01-12T13:46:40Z",
        "reason": "unreachable",
        "error": f"{SERVER}: connection failed",
    }
    assert story.tell(hit(gone)) == story.tell(hit(gone, "b")) == story.tell(hit(gone, "ac")) == []
    (line,) = story.tell()
    assert (line["event"], line["queries"], line["lasted"]) == ("query answered again", 3, "4m")
    assert line["since"] == "1970-01-12T13:46:40Z"
    assert len(story.tell(hit(gone))) == 1


def test_another_reason_within_an_outage_is_news_once():
    story = Story()
    gone, busy = UnreachableError("gone"), BusyError("busy", "too_many_requests")
    told = [story.tell(hit(error)) for error in (gone, busy, gone, busy)]
    assert [len(lines) for lines in told] == [1, 1, 0, 0]


def test_a_refusal_of_all_queries_is_a_fault_of_the_server():
    (line,) = Story().tell(hit(PrometheusError("HTTP 401", "unauthorized")))
    assert (line["queries"], line["error"]) == (3, "HTTP 401")


def test_queries_that_fail_alike_are_named_in_one_line():
    failures = hit(PrometheusError("HTTP 422 (too many samples)", "execution"), "ab")
    (line,) = Story().tell(failures)
    assert (line["query"], line["error"]) == ("a, b", "HTTP 422 (too many samples)")


def test_the_failure_of_a_query_has_its_own_line_within_an_outage_too():
    story = Story()
    bad = {"a": PrometheusError("query a: bad", "bad_data")}
    (line,) = story.tell(bad)
    assert (line["query"], line["reason"], line["error"]) == ("a", "bad_data", "query a: bad")
    (line,) = story.tell(hit(UnreachableError("gone")))
    assert line["queries"] == 3
    assert [each["event"] for each in story.tell(bad)] == ["query answered again"]
    assert [each["query"] for each in story.tell()] == ["a"]


def test_the_failure_of_the_only_query_is_its_own():
    (line,) = Story().tell({"a": PrometheusError("query a: bad", "bad_data")}, queries=1)
    assert line["query"] == "a"


def test_clocks_that_differ_are_logged_once_until_they_agree():
    story = Story()
    (line,) = story.tell(clock=-600.0)
    assert line["event"] == "server clock differs; synchronise both clocks"
    assert (line["difference"], line["latency_offset"]) == ("10m behind this machine", "10s")
    assert story.tell(clock=-600.0) == story.tell(clock=-9.0) == story.tell(clock=-11.0) == []
    assert story.tell(clock=0.0) == story.tell(clock=None) == []
    (line,) = story.tell(clock=600.0)
    assert line["difference"] == "10m ahead of this machine"


def test_a_poll_has_the_same_fault_for_every_query_and_the_clock_of_the_server():
    with (
        stub_server(lambda _: Say(503, "overloaded")) as stub,
        PrometheusClient(stub.url, PrometheusSettings(), retries=0) as client,
    ):
        poll = Poller(client, QUERIES, 15.0, 4, 120.0).poll(NOW)
    faults = {error.fault for error in poll.failures.values()}
    assert len(poll.failures) == 3
    assert len(faults) == 1
    assert faults.pop().startswith(f"{stub.url}: HTTP 503 (overloaded)")
    assert poll.clock_offset == 0.0


@pytest.mark.parametrize("say", [Say(hang_up=True), Say(401, "who are you")])
def test_the_check_reports_a_fault_of_the_server_once(capsys, say):
    with stub_server(lambda _: say) as stub:
        config = Config.model_validate({"prometheus_url": stub.url, "queries": QUERIES})
        assert run_check(config) == 3
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"  {stub.url}: ")
    assert first.endswith("(3 queries)")
    assert "rate(" not in first
    assert last == f"{stub.url}: problems with 3 of 3 queries"


def test_a_command_names_no_query_if_the_server_is_at_fault(tmp_path, monkeypatch, capsys):
    with stub_server(lambda _: Say(401, "who are you")) as stub:
        path = tmp_path / "config.yaml"
        path.write_text(
            f"prometheus_url: {stub.url}\nqueries:\n  a: rate(a[1m])\n  b: rate(b[1m])\n"
        )
        monkeypatch.setattr("sys.argv", ["promad", "-c", str(path), "collect"])
        with pytest.raises(SystemExit) as ended:
            main()
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert line.startswith(f"promad: {stub.url}: HTTP 401 (who are you)")


def test_a_limit_of_the_server_is_logged_once_for_all_queries():
    def limited(asked):
        return FINE(asked) if asked.points < 20 else Say(422, "exceeded maximum of 20 points")

    with (
        structlog.testing.capture_logs() as lines,
        stub_server(limited) as stub,
        PrometheusClient(stub.url, PrometheusSettings(), retries=0) as client,
    ):
        fetch_history(client, QUERIES, [(0.0, 600.0)], 15.0, now=NOW)
    assert [line["event"] for line in lines] == ["request too large; asking for less"]
