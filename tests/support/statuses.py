"""One group in each state, with the same numbers in every test."""

from dataclasses import replace

from promad.events.events import AnomalyEvent
from promad.events.status import GroupStatus
from promad.events.verdict import FeatureView, LargestDeviation, State, Verdict

CPU = FeatureView(
    "cpu",
    error=0.3,
    contribution=0.75,
    observed=0.9,
    expected=0.25,
    elevation=2.5,
    since=1699999940.0,
    largest=LargestDeviation(1699999970.0, observed=0.95, expected=0.2, elevation=40.0),
)
LOAD = FeatureView("load", error=0.1, contribution=0.25, observed=4.0, expected=3.5, elevation=0.5)

JUDGED = Verdict(
    1700000000.0,
    State.ANOMALOUS,
    3.0,
    score=6.0,
    mse=0.2,
    features=(CPU, LOAD),
    missing=("disk", "network"),
)
ANOMALOUS = GroupStatus(
    verdict=JUDGED,
    events_begun=3,
    event=AnomalyEvent("d0", 1699999940.0, 1699999970.0, None, JUDGED),
    last_scored_at=1700000000.0,
    samples_in_window=30,
)
OK = replace(ANOMALOUS, verdict=replace(ANOMALOUS.verdict, state=State.OK), event=None)
BLIND = replace(
    OK, verdict=Verdict(1700000030.0, State.BLIND, 3.0, why="query cpu failed"), samples_in_window=0
)
WARMING = GroupStatus(Verdict(1700000030.0, State.WARMING, 3.0, why="4 of 30"), samples_in_window=4)
