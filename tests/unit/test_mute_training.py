"""What was muted is left out of training, and is no false alarm of a backtest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from promad.bundle import open_detector
from promad.cli.commands.backtest import format_backtest, format_fleet
from promad.cli.commands.preprocess import format_preprocessed
from promad.config import Config, PrometheusSettings, load_config
from promad.config.durations import format_instant
from promad.config.known_incidents import Incident
from promad.config.training_digests import digest_training
from promad.data.artifacts import open_groups
from promad.data.groups import Grouping
from promad.errors import DataError, PrometheusError
from promad.prometheus import PrometheusClient
from promad.prometheus.grid import Span
from promad.prometheus.mute_queries import fetch_mute_marks
from promad.stages.backtest import backtest, backtest_fleet
from promad.stages.collect import collect
from promad.stages.preprocess import preprocess
from promad.stages.report import write_fleet_report
from promad.training.processed_file import locate_processed, read_fleet
from promad.training.processing import ProcessingOptions
from tests.support.prometheus_stub import Say, stub_server
from tests.support.small_fleet import (
    SAMPLES,
    STEP,
    TRAINED,
    Fault,
    SmallFleet,
    at,
    serve_fleet,
    train_fleet,
    write_config,
)

QUERY = 'ALERTS{alertname="Maintenance"}'
FLEET = SmallFleet(
    lives=dict.fromkeys("abc", (0, SAMPLES)),
    faults=(
        Fault(("b",), 300, 312),
        Fault(("a", "b"), 760, 772),
        Fault(("c",), 840, 850),
    ),
    alerts={
        (("alertname", "Maintenance"), ("instance", "b")): (299, 319),
        (("alertname", "Maintenance"),): (755, 784),
    },
)
"""Maintenance of b during training; of all while the first fault of the backtest lasts."""


def span(first: int, last: int) -> str:
    """From a sample until before another, as YAML."""
    return f"from: '{format_instant(at(first))}', to: '{format_instant(at(last))}'"


def write(directory: Path, url: str, *entries: str) -> Config:
    more = "mute:\n" + "".join(f"  - {{{entry}}}\n" for entry in entries)
    path = write_config(directory / "config.yaml", url, more=more if entries else "")
    return load_config(path)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve_fleet(FLEET) as stub:
        yield stub.url


@pytest.fixture(scope="module")
def trained(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a bundle of the time that no query mutes."""
    directory = tmp_path_factory.mktemp("trained")
    train_fleet(write(directory, url, f"query: '{QUERY}'"))
    return directory


def times_of(config: Config, instance: str) -> list[int]:
    """The samples of a group that are in the processed file, by their number."""
    file = open_groups(locate_processed(config), "preprocess")
    group = file.groups.index((("instance", instance),))
    times = np.concatenate([frame.times for frame in file.read(group)])
    return np.round((times - at(0)) / STEP).astype(int).tolist()


def missing(config: Config, instance: str) -> set[int]:
    return set(range(TRAINED + 1)) - set(times_of(config, instance))


# Training


def test_a_query_leaves_out_the_time_of_the_groups_that_it_muted(trained: Path) -> None:
    config = load_config(trained / "config.yaml")
    assert missing(config, "b") == set(range(299, 320))
    assert missing(config, "a") == missing(config, "c") == set()
    report = preprocess(config)
    lines = list(format_preprocessed(report))
    assert "  excluded by data_settings.exclude and mute: 21 samples (1.00%)" in lines
    assert any(line.startswith(f"    mute {QUERY}: 1 period, ") for line in lines)


def test_periods_and_windows_leave_out_their_time_of_the_chosen_groups(
    url: str, tmp_path: Path
) -> None:
    hour = int(at(0) // 3600 + 2) % 24
    cron = f"cron: '0 {hour} * * *', duration: 10m, name: nightly"
    config = write(tmp_path, url, f"{span(100, 110)}, groups: {{instance: '[ab]'}}", cron)
    collect(config, now=at(SAMPLES))
    report = preprocess(config)
    nightly = {
        sample
        for sample in range(TRAINED + 1)
        if at(sample) // 3600 % 24 == hour and at(sample) % 3600 < 600
    }
    assert len(nightly) == 20
    assert missing(config, "a") == missing(config, "b") == {*range(100, 110), *nightly}
    assert missing(config, "c") == nightly
    assert {stretch.why.partition(" 2")[0] for stretch in report.excluded} == {
        "mute nightly",
        "mute",
    }


def test_data_that_was_processed_with_another_mute_of_its_time_is_refused(
    url: str, tmp_path: Path
) -> None:
    config = write(tmp_path, url, f"{span(100, 110)}")
    collect(config, now=at(SAMPLES))
    preprocess(config)
    later = write(tmp_path, url, f"{span(100, 110)}, name: renamed", span(2000, 2010))
    assert read_fleet(locate_processed(later), ProcessingOptions.of(later)).groups
    for other in (write(tmp_path, url), write(tmp_path, url, span(100, 111))):
        with pytest.raises(DataError, match="another mute of its time — run promad preprocess"):
            read_fleet(locate_processed(other), ProcessingOptions.of(other))
    asking = write(tmp_path, url, f"query: '{QUERY}'")
    with pytest.raises(DataError, match=r"without the query ALERTS.* run promad collect again"):
        preprocess(asking)


def test_mute_alone_is_no_reason_to_train_again(url: str, tmp_path: Path) -> None:
    muted, plain = write(tmp_path, url, span(1, 2)), write(tmp_path, url)
    assert digest_training(muted) == digest_training(plain)


def test_a_mute_of_all_of_the_time_is_named_with_the_group(url: str, tmp_path: Path) -> None:
    config = write(tmp_path, url, span(0, SAMPLES))
    collect(config, now=at(TRAINED))
    with pytest.raises(
        DataError, match=r'of \{instance="a"\}: data_settings.exclude and mute exclude'
    ):
        preprocess(config)


def test_a_query_that_fails_over_a_period_is_named_as_one_of_mute() -> None:
    refuse = Say(422, '{"status":"error","errorType":"execution","error":"too much"}')
    with stub_server(lambda _: refuse) as stub:
        client = PrometheusClient(stub.url, PrometheusSettings())
        with (
            closing(client),
            pytest.raises(PrometheusError, match=r"^mute: \S+: deploying: .*too much"),
        ):
            fetch_mute_marks(client, ["deploying"], [Span(0.0, 600.0)], 30.0, Grouping())


def test_a_damaged_list_of_marks_is_refused(trained: Path) -> None:
    from promad.training.muted_time import read_marks

    for text in ("[", "[1]", json.dumps({QUERY: [{"labels": {}, "ranges": [[1]]}]})):
        with pytest.raises(DataError, match="damaged marks of mute"):
            read_marks({"mute_marks": text})


# Backtest


def test_muted_incidents_are_reported_and_do_not_count(trained: Path) -> None:
    config = load_config(trained / "config.yaml")
    found = backtest_fleet(config, at(702), at(880))
    muted = [incident for incident in found.found if incident.alerts_from is None]
    assert [incident.muted for incident in muted] == [QUERY]
    assert at(760) <= muted[0].start <= at(763)
    others = [incident for incident in found.found if incident.alerts_from is not None]
    assert others
    weeks = found.scored * STEP / (7 * 86400)
    assert found.incidents_per_week == pytest.approx(len(others) / weeks)
    lines = list(format_fleet(found))
    assert any(line.endswith(f"  muted: {QUERY}") for line in lines)
    assert f"{len(found.found)} incidents (1 muted) in " in lines[-1]


def test_a_muted_incident_is_no_false_alarm_but_may_find_a_known_one(trained: Path) -> None:
    config = load_config(trained / "config.yaml")
    elsewhere = Incident(start=at(839), end=at(852), name="c")
    found = backtest_fleet(config, at(702), at(880), [elsewhere])
    assert found.figures is not None
    assert (found.figures.found, found.figures.false_episodes) == (1, 0)
    both = [Incident(start=at(759), end=at(775), name="ab"), elsewhere]
    found = backtest_fleet(config, at(702), at(880), both)
    assert found.figures is not None
    assert found.figures.found == 2


def test_one_group_is_muted_as_it_is_with_all(trained: Path) -> None:
    config = load_config(trained / "config.yaml")
    found = backtest(config, at(702), at(800), group='web{instance="a"}')
    assert found.muted == len(found.events) == 1
    assert found.events_per_week == 0
    assert "1 event (1 muted), 0 per week" in list(format_backtest(found))[-1]


def test_the_report_says_what_was_muted(trained: Path, tmp_path: Path) -> None:
    config = load_config(trained / "config.yaml")
    page = tmp_path / "report.html"
    write_fleet_report(config, at(702), at(800), page)
    assert "muted by ALERTS{alertname=" in page.read_text()


def test_training_sees_none_of_it(trained: Path) -> None:
    config = load_config(trained / "config.yaml")
    assert open_detector(config).bundle.manifest.excluded == [
        f"{format_instant(at(299))}/{format_instant(at(319))} mute {QUERY}"
    ]
