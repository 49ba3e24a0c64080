"""`promad init`: what is asked of a server, what is written, and what is refused in one line."""

import json
import re
import stat

import pytest

from promad.cli.commands.init import format_report
from promad.config import Config, load_config
from promad.errors import ConfigError, DataError, PromadError, PrometheusError
from promad.presets.fitting import fit_preset
from promad.prometheus import PrometheusClient
from promad.prometheus.discovery import discover
from promad.stages.init import InitRequest, init
from tests.support.prometheus_stub import Say, matrix, stub_server

NOW = 1_800_000_000.0
DAY = 86400.0
NGINX = (
    "nginx_http_requests_total", "nginx_connections_accepted", "nginx_connections_handled",
    "nginx_connections_active", "nginx_connections_reading", "nginx_connections_writing",
    "nginx_connections_waiting",
)  # fmt: skip


def answering(
    names=NGINX,
    *,
    interval=15.0,
    history=30 * DAY,
    hosts=3,
    constant=(),
    between=0.0,
    absent=(),
    targets=(),
):
    """A server with these metrics of some hosts; `absent` are endpoints that it lacks.

    `between` is how far the constant ones are from it at times that are not probed.
    """

    def handle(asked):
        path = asked.path.partition("/api/v1/")[2]
        if path in absent:
            return Say(404, "not here")
        if path == "label/__name__/values":
            return succeed(list(names))
        if path == "status/buildinfo":
            return succeed({"version": "2.42.0"})
        if path == "status/runtimeinfo":
            return succeed({"storageRetention": "30d"})
        if path == "targets":
            return succeed({"activeTargets": list(targets)})
        expr = asked.form["query"]
        return ask_values(asked, expr) if path == "query_range" else ask_once(asked, expr)

    def ask_once(asked, expr):
        at = float(asked.form["time"])
        if "__name__" in expr:
            return vector([{"__name__": name} for name in names], at)
        if "_over_time(" in expr:
            return succeed({"resultType": "vector", "result": [point({}, at, between)]})
        if expr.startswith("topk"):
            return vector([{"__name__": NGINX[0], "instance": "h0", "job": "nginx"}], at)
        times = [at - interval * place for place in range(int(1200 // interval), -1, -1)]
        return Say(body=matrix({(("instance", "h0"),): [(time, 1.0) for time in times]}))

    def ask_values(asked, expr):
        start, step = float(asked.form["start"]), float(asked.form["step"])
        times = [start + place * step for place in range(asked.points)]
        if expr == "time()":
            return Say(body=matrix({(): [(time, time) for time in times]}))
        metric = next((name for name in names if re.search(rf"\b{name}\b", expr)), None)
        if metric is None:
            return Say(body=matrix({}))
        groups = [()] if expr.startswith("count") else hosts_of(hosts)
        return Say(body=matrix({group: list(values(metric, expr, times)) for group in groups}))

    def values(metric, expr, times):
        for time in times:
            if time >= NOW - history:
                value = 1.0 if metric in constant else time % 6007
                yield time, time if "timestamp(" in expr else value

    return handle


def hosts_of(count):
    return [(("instance", f"h{number}"),) for number in range(count)]


def succeed(data):
    return Say(body=json.dumps({"status": "success", "data": data}))


def vector(label_sets, at):
    result = [point(labels, at, 1.0) for labels in label_sets]
    return succeed({"resultType": "vector", "result": result})


def point(labels, at, value):
    return {"metric": labels, "value": [at, str(value)]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "config.yaml"


def run(path, handle, **request):
    """The report, its lines and what was asked."""
    with stub_server(handle) as stub:
        report = init(InitRequest(path, url=stub.url, **request), NOW)
        lines = [line.replace(stub.url, "URL") for line in format_report(report, stub.url)]
        return report, lines, stub


def test_what_the_server_has_becomes_a_configuration(path):
    targets = [{"labels": {"job": "nginx"}, "scrapeInterval": "1m0s"}]
    _, lines, stub = run(path, answering(targets=targets))
    assert lines == [
        "init: URL: version 2.42.0, 1 target, 7 metric names, retention 30d",
        "  nginx: 7 queries, 3 groups, scrape interval 1m, 7d or more of history → " + str(path),
        f"next: promad -c {path} check-config --online",
    ]
    config = load_config(path)
    assert config.prometheus_url == stub.url
    assert config.artifacts_dir == path.parent / "artifacts/nginx"
    assert config.queries["requests"].expr == (
        "sum by (instance) (rate(nginx_http_requests_total[4m]))"
    )
    assert config.data_settings.step == 60
    assert config.data_settings.collection_period_hours == 168
    assert config.real_time_anomaly_detection.query_interval_seconds == 60
    assert config.real_time_anomaly_detection.stale_after == 180


def test_what_does_not_hold_is_left_out_and_named(path):
    names = [name for name in NGINX if name != "nginx_connections_handled"]
    _, lines, _ = run(path, answering(names, constant={"nginx_connections_reading"}))
    assert lines[2:4] == [
        "  nginx: left out connections_dropped: the server has no nginx_connections_handled",
        "  nginx: left out connections_reading: constant (1) in the last 7d",
    ]
    assert len(load_config(path).queries) == 5
    assert "# Left out: constant (1) in the last 7d.\n  #connections_reading:" in path.read_text()


def test_what_moves_between_the_probes_is_not_constant(path):
    report, _, _ = run(path, answering(constant={"nginx_connections_reading"}, between=0.5))
    assert report.written[0].draft.left_out == {}


def test_a_server_may_allow_queries_alone(path):
    def handle(asked):
        return answering()(asked) if "/query" in asked.path else Say(403, "queries only")

    report, lines, _ = run(path, handle)
    assert lines[1].count("(HTTP 403)") == 4
    assert report.written[0].queries == 7


@pytest.mark.parametrize("interval", [10.0, 30.0, 60.0])
def test_a_server_without_endpoints_is_asked_by_promql(path, interval):
    absent = {"label/__name__/values", "status/buildinfo", "status/runtimeinfo", "targets"}
    report, lines, _ = run(path, answering(absent=absent, interval=interval))
    assert lines[1] == (
        "  not available on this server: metric names (HTTP 404), version (HTTP 404), targets "
        "(HTTP 404), retention (HTTP 404)"
    )
    (one,) = report.written
    assert (one.draft.timing.interval, one.queries) == (interval, 7)


@pytest.mark.parametrize(
    ("days", "hours"), [(3, 72), (1.5, 36), (0.25, 6), (1 / 24, 2.5), (1 / 144, 2.5)]
)
def test_the_period_fits_the_history(path, days, hours):
    report, lines, _ = run(path, answering(history=days * DAY))
    config = load_config(path)
    found = config.data_settings.collection_period_hours
    assert 0.95 * hours - 0.1 <= found <= hours
    assert report.written[0].fit.history == pytest.approx(days * DAY, rel=0.05, abs=30)
    assert ("too little history to train" in "\n".join(lines)) == (hours < 3)
    assert "# Raise it to 168 once the server has a week of it." in path.read_text()


def test_the_labels_of_groups_can_be_chosen(path):
    run(path, answering(), group_by=("instance",))
    assert load_config(path).group_by == ("instance",)
    run(path, answering(hosts=1), group_by=(), force=True)
    config = load_config(path)
    assert config.group_by == ()
    assert config.queries["connections_active"].expr == "sum by () (nginx_connections_active)"


def test_a_label_that_no_series_has_is_named(path):
    with pytest.raises(DataError, match="no query can be used: nginx: its series have no label "):
        run(path, answering(), group_by=("instance", "pod"))


def test_more_groups_than_the_default_are_admitted(path):
    (one,) = init(InitRequest(path, "nginx"), NOW).written
    defaults = Config.model_validate({"queries": {"any": "up"}, "max_groups": 2})
    with (
        stub_server(answering()) as stub,
        PrometheusClient(stub.url, defaults.prometheus) as client,
    ):
        found = discover(client, NGINX, NOW)
        fit = fit_preset(client, one.draft, found, defaults, NOW)
    assert (fit.groups, fit.draft.max_groups) == (3, 1000)


@pytest.mark.parametrize("inside", [True, False])
def test_credentials_are_used_and_become_part_of_the_file(path, inside):
    secrets = path.parent / "secrets"
    secrets.mkdir()
    (secrets / "password").write_text("hunter2\n")
    text = "basic_auth:\n  username: promad\n  password_file: password\n"
    if inside:
        text = "queries: {a: up}\nprometheus:\n  " + text.replace("\n", "\n  ")
    (secrets / "http.yaml").write_text(text)

    def handle(asked):
        if asked.headers.get("Authorization") != "Basic cHJvbWFkOmh1bnRlcjI=":
            return Say(401, "no")
        return answering()(asked)

    run(path, handle, http_config=secrets / "http.yaml")
    settings = load_config(path).prometheus.basic_auth
    assert settings.password_file == path.parent / "secrets/password"
    assert "hunter2" not in path.read_text()
    (secrets / "password").write_text("wrong")
    with pytest.raises(PrometheusError) as raised:
        run(path, handle, http_config=secrets / "http.yaml", force=True)
    assert re.fullmatch(
        r"http://127.0.0.1:\d+: HTTP 401 \(no\) — check prometheus.basic_auth, authorization, "
        "oauth2, sigv4 and http_headers",
        raised.value.summary,
    )


def test_a_file_with_a_secret_can_be_read_by_its_owner_alone(path):
    http = path.parent / "http.yaml"
    http.write_text("authorization: {credentials: hunter2}\n")
    run(path, answering(), http_config=http)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_config(path).prometheus.authorization.credentials.get_secret_value() == "hunter2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("basic_auth:\n  username: a\n  user: a\n", ":3: prometheus.basic_auth.user: unknown key"),
        ("- a\n", ":1: not a mapping of keys to values"),
        ("{timeout: 5}", ":1: prometheus.timeout: a duration needs a unit"),
    ],
)
def test_a_mistake_in_http_settings_is_named_with_its_line(path, text, message):
    http = path.parent / "http.yaml"
    http.write_text(text)
    with pytest.raises(ConfigError) as raised:
        init(InitRequest(path, "nginx", http_config=http), NOW)
    (problem,) = raised.value.problems
    assert problem.startswith(f"{http}{message}")


def test_a_file_is_overwritten_only_if_that_is_forced(path):
    path.write_text("mine")
    with pytest.raises(PromadError, match="exists — overwrite it with --force, or write another"):
        run(path, answering())
    assert path.read_text() == "mine"
    run(path, answering(), force=True)
    assert load_config(path).name == "nginx"


def test_nothing_is_written_if_one_of_several_files_exists(path):
    names = (*NGINX, "redis_connected_clients")
    (path.parent / "config-nginx.yaml").write_text("mine")
    with pytest.raises(PromadError, match=r"config-nginx\.yaml exists"):
        run(path, answering(names))
    assert not path.exists()
    report, lines, _ = run(path, answering(names), force=True)
    other = path.with_name("config-nginx.yaml")
    assert lines[-1] == f"next: promad -c {path} -c {other} check-config --online"
    assert [one.path.name for one in report.written] == ["config.yaml", "config-nginx.yaml"]
    first, second = (load_config(one.path) for one in report.written)
    assert first.name != second.name
    assert first.artifacts_dir != second.artifacts_dir


def test_a_server_without_any_exporter_is_refused_with_what_was_looked_for(path):
    with pytest.raises(DataError) as raised:
        run(path, answering(names=["up"]))
    assert "no metrics of node (node_cpu_seconds_total), windows (" in str(raised.value)
    assert str(raised.value).endswith("write your own queries: promad config > config.yaml")
    assert not path.exists()


def test_a_server_whose_queries_all_fail_is_refused_with_the_first_reason(path):
    with pytest.raises(DataError, match="no query can be used: nginx: no series in the"):
        run(path, answering(hosts=0))


def test_an_unreachable_server_is_one_line(path):
    with pytest.raises(PrometheusError, match="connection failed"):
        init(InitRequest(path, url="http://127.0.0.1:1"), NOW)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"url": "ftp://a"}, "init: --prometheus: not a valid URL"),
        ({"url": "http://a:b@c"}, "init: --prometheus: credentials are not allowed in the URL"),
        ({"preset": "nginx", "group_by": ("a b",)}, "init: --group-by a b: not a label name"),
        ({}, "init: --preset auto needs --prometheus URL — set it, or name a preset: node, "),
    ],
)
def test_a_wrong_option_is_one_line(path, request_, message):
    with pytest.raises(ConfigError) as raised:
        init(InitRequest(path, **request_), NOW)
    assert str(raised.value).startswith(message)


def test_without_a_server_a_preset_is_written(path):
    report = init(InitRequest(path, "kubernetes"), NOW)
    assert list(format_report(report, None)) == [
        f"  kubernetes: 12 queries → {path}",
        f"next: set prometheus_url, then promad -c {path} check-config --online",
    ]
    assert load_config(path).group_by == ("namespace",)
    assert "# Set this to the URL of your Prometheus.\n" in path.read_text()
