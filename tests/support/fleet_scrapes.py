"""Scrapes of a detector with `group_by: [instance]` for tests, under `honor_labels: true`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from promad.events.verdict import State
from promad.exposition import names
from promad.exposition.names import MetricSpec
from tests.support.promtool import Scrape, Value
from tests.support.scrapes import OK, PREFIX, TARGET, scrape, selector

LEADING: Mapping[str, float] = MappingProxyType({"cpu": 0.7, "load": 0.2, "disk": 0.1, "net": 0.0})
"""The features of every incident, with their contributions."""

START = 1700000000.0


def name_hosts(number: int) -> list[dict[str, str]]:
    """The labels of groups: hosts, in two data centres by turns."""
    return [
        {"instance": f"host-{place}:9100", "datacenter": "eu" if place % 2 else "us"}
        for place in range(number)
    ]


def scrape_fleet(
    groups: Sequence[Mapping[str, str]],
    anomalous: Sequence[int] = (),
    blind: Sequence[int] = (),
    *,
    incidents: int | None = None,
    begun: int = 0,
    refused: int = 0,
    score: float = 2.0,
    age: float = 20.0,
    keep: Sequence[str] = ("instance",),
) -> Scrape:
    """The series of a daemon with the detector d0 that monitors these groups.

    Args:
        anomalous, blind: positions of groups.
        incidents: how many are open; by default one if any group is anomalous.
        keep: the labels in `group_by`.
    """
    labels = [{name: group[name] for name in keep} for group in groups]
    states = [
        State.ANOMALOUS if place in anomalous else State.BLIND if place in blind else State.OK
        for place in range(len(groups))
    ]
    daemon = scrape(OK, changed={names.SAMPLE_AGE: age})
    found = {name: value for name, value in daemon.items() if not name.startswith(PREFIX)}
    for own, state in zip(labels, states, strict=True):
        found |= _scrape_group(own, state, score)
    counts = Counter(states)
    found |= {_name(names.GROUPS, {"state": state}): float(counts[state]) for state in State}
    found[_name(names.GROUPS_REFUSED)] = float(refused)
    found[_name(names.FEATURE_SERIES_LEFT_OUT)] = 0.0
    found[_name(names.INCIDENTS)] = float(begun)
    open_ = bool(anomalous) if incidents is None else incidents
    found[_name(names.INCIDENT_OPEN)] = float(open_)
    return found | (_scrape_incident(labels, anomalous) if open_ else {})


def _scrape_group(own: Mapping[str, str], state: State, score: float) -> Scrape:
    found: dict[str, Value] = {
        _name(names.STATE, {**own, "state": each}): float(each is state) for each in State
    }
    found[_name(names.GROUP_INFO, {**own, "calibration": "own"})] = 1.0
    found[_name(names.THRESHOLD, own)] = 3.0
    found[_name(names.EVENTS, own)] = float(state is State.ANOMALOUS)
    found[_name(names.WINDOW_SAMPLES, own)] = 30.0
    found[_name(names.LAST_SCORED, own)] = lambda at: at
    if state is not State.BLIND:
        anomalous = state is State.ANOMALOUS
        found[_name(names.SCORE, own)] = score if anomalous else 0.5
        found[_name(names.IS_ANOMALY, own)] = float(anomalous)
        found[_name(names.KNOWN_FEATURES, own)] = 1.0
        found[_name(names.RECONSTRUCTION_ERROR, own)] = 0.1
        if anomalous:
            found[_name(names.ANOMALOUS_SINCE, own)] = START
        for feature in ("cpu", "load"):
            found |= _scrape_feature({**own, "feature_name": feature})
    return found


def _scrape_feature(own: Mapping[str, str]) -> Scrape:
    """A feature below its baseline."""
    return {
        _name(names.FEATURE_CONTRIBUTION, own): 0.5,
        _name(names.FEATURE_ELEVATION, own): 0.5,
        _name(names.FEATURE_ERROR, own): 0.1,
        _name(names.FEATURE_OBSERVED, own): 2.0,
        _name(names.FEATURE_EXPECTED, own): 1.0,
    }


def _scrape_incident(groups: Sequence[Mapping[str, str]], anomalous: Sequence[int]) -> Scrape:
    first = groups[anomalous[0]]
    return {
        _name(names.INCIDENT_GROUPS): float(len(anomalous)),
        _name(names.INCIDENT_GROUPS_SHARE): len(anomalous) / len(groups),
        _name(names.INCIDENT_SINCE): START,
        _name(names.INCIDENT_FIRST_GROUP, first): 1.0,
        **{
            _name(names.INCIDENT_FEATURE_SHARE, {"feature_name": feature}): share
            for feature, share in LEADING.items()
        },
    }


def _name(spec: MetricSpec, labels: Mapping[str, str] = MappingProxyType({})) -> str:
    """A series as `honor_labels: true` stores it: its own labels win over those of the target."""
    return selector(spec.full_name(PREFIX), {**TARGET, "detector": "d0", **labels})
