"""What is valid in a configuration but probably not meant is named with its line."""

import subprocess
import sys

import pytest

from promad.config import load_config
from promad.config.warnings import find_lost_text, find_raw_counters

HEAD = "prometheus_url: http://prometheus.example\nqueries:\n"


def written(tmp_path, queries):
    path = tmp_path / "config.yaml"
    path.write_text(HEAD + queries)
    return path


@pytest.mark.parametrize(
    ("queries", "line"),
    [
        ("  ratio: >-\n    up   # numerator\n    / up\n  same: up\n", 4),
        ('  tag: >-\n    up{a="#"}\n    / up # half\n    / up\n', 5),
        ("  quoted: 'up # half\n    / up'\n", 3),
        ("  long:\n    expr: >\n      up # half\n      / up\n", 5),
        ("  at_the_end: >-\n    up # half\n    / up", 4),
    ],
)
def test_a_comment_that_hides_the_next_line_is_named_with_its_line(tmp_path, queries, line):
    path = written(tmp_path, queries)
    (warning,) = find_lost_text(path)
    assert warning.startswith(f"{path}:{line}: warning: queries.")
    assert "so # hides the rest of the expression" in warning


@pytest.mark.parametrize(
    "queries",
    [
        "  kept: |-\n    up   # numerator\n    / up\n",
        "  alone: >-\n    up # all of it\n",
        '  string: >-\n    up{a="# no comment"}\n    / up\n',
        "  yaml: up # a comment of YAML\n",
        "  none: up\n",
    ],
)
def test_a_comment_that_hides_nothing_is_no_matter(tmp_path, queries):
    assert list(find_lost_text(written(tmp_path, queries))) == []


@pytest.mark.parametrize(
    ("expr", "metric"),
    [
        ("sum(errors_total)", "errors_total"),
        ("errors_total / up", "errors_total"),
        ("a_seconds_sum / rate(a_seconds_count[5m])", "a_seconds_sum"),
        ("histogram_quantile(0.9, sum by (le) (latency_bucket))", "latency_bucket"),
        ("avg_over_time(errors_total[5m])", "errors_total"),
        ("-(max_over_time(errors_total[5m:1m]))", "errors_total"),
        ("sum(rate(errors_total[2m])) + other_total", "other_total"),
        ("sum(rate(errors_total[2m]))", None),
        ("increase(errors_total[5m:1m])", None),
        ("irate(errors_total[2m]) or vector(0)", None),
        ("errors_total - errors_total offset 5m", None),
        ("count(errors_total)", None),
        ("node_load1", None),
    ],
)
def test_a_counter_that_is_used_as_it_is_is_named(tmp_path, expr, metric):
    config = load_config(written(tmp_path, f"  a: {expr}\n"))
    found = list(find_raw_counters(config))
    assert found == (
        []
        if metric is None
        else [
            f"warning: queries.a: {metric} looks like a counter, which only rises and resets — use "
            f"rate({metric}[…])"
        ]
    )


def run(path, *arguments):
    command = [sys.executable, "-m", "promad", "-c", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_check_config_prints_both_and_other_commands_what_is_hidden(tmp_path):
    path = written(tmp_path, "  ratio: >-\n    up # half\n    / up\n  errors: errors_total\n")
    checked = run(path, "check-config")
    assert checked.returncode == 0
    assert f"{path}:4: warning: queries.ratio: " in checked.stdout
    assert f"{path}: warning: queries.errors: errors_total looks like a counter" in checked.stdout
    listed = run(path, "models", "list")
    assert listed.stderr.startswith(f"{path}:4: warning: queries.ratio: ")


def test_paths_are_relative_to_the_file_as_it_is_named(tmp_path):
    """A ConfigMap is a link to a directory that changes with each update."""
    for version in ("..v1", "..v2"):
        (tmp_path / version).mkdir()
        written(tmp_path / version, "  a: up\n")
    data = tmp_path / "..data"
    (tmp_path / "config.yaml").symlink_to("..data/config.yaml")
    for version in ("..v1", "..v2"):
        data.unlink(missing_ok=True)
        data.symlink_to(version)
        assert load_config(tmp_path / "config.yaml").artifacts_dir == tmp_path / "artifacts"
