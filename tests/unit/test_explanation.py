"""Explanations: what they contain, in which order and in which words."""

from dataclasses import replace

import pytest

from promad.events.explanation import (
    event_paragraph,
    explain,
    feature_sentence,
    format_factor,
    format_value,
    incident_paragraph,
    paragraph,
)
from promad.events.incident_book import IncidentBook, survey_groups
from promad.events.verdict import FeatureView, LargestDeviation, State, Verdict
from tests.support.incidents import RULES, make_event
from tests.support.statuses import ANOMALOUS, CPU, JUDGED, LOAD


def test_a_paragraph_says_how_bad_since_when_what_drives_it_and_what_is_missing():
    assert paragraph(JUDGED, ANOMALOUS.event.start) == (
        "Score: 2× the threshold; anomalous since 2023-11-14T22:12:20Z. "
        "cpu: 75% of the deviation; observed 0.95 at 2023-11-14T22:12:50Z, above the expected 0.2; "
        "error 40× its baseline; deviates since 2023-11-14T22:12:20Z; now 0.9, expected 0.25. "
        "Only 50% of the features have current samples."
    )


def test_an_event_shows_each_feature_where_it_deviated_most_and_not_its_newest_values():
    text = event_paragraph(ANOMALOUS.event)
    assert "observed 0.95 at 2023-11-14T22:12:50Z, above the expected 0.2; error 40×" in text
    assert "now" not in text
    assert "0.25" not in text


def test_the_newest_sample_is_shown_once_if_the_feature_deviates_most_there():
    newest = replace(CPU, largest=LargestDeviation(JUDGED.at, 0.9, 0.25, 30.0))
    assert "now" not in feature_sentence(newest, JUDGED.at)
    assert "; now 0.9, expected 0.25." in feature_sentence(CPU, JUDGED.at)
    gone = feature_sentence(replace(CPU, observed=float("nan")), JUDGED.at)
    assert gone.endswith("; no current sample.")


def test_the_direction_is_that_of_the_largest_deviation_while_the_value_returns():
    returning = replace(CPU, observed=0.1, expected=0.6)
    assert returning.direction == "above"
    assert "above the expected 0.2;" in feature_sentence(returning, JUDGED.at)


def test_features_that_contribute_little_beside_the_first_are_not_named():
    dragged = replace(CPU, name="disk", contribution=0.07)
    both = replace(JUDGED, features=(replace(CPU, contribution=0.93), dragged), missing=())
    assert "disk" not in paragraph(both)
    alike = replace(both, features=(replace(CPU, contribution=0.28), dragged))
    assert "disk" in paragraph(alike)


def test_a_feature_of_an_earlier_version_has_the_values_of_its_sample():
    assert feature_sentence(replace(CPU, largest=None), JUDGED.at) == (
        "cpu: 75% of the deviation; observed 0.9, above the expected 0.25; "
        "error 2.5× its baseline since 2023-11-14T22:12:20Z."
    )


def test_only_features_that_deviate_are_named_and_without_any_it_says_so():
    usual = replace(JUDGED, features=(replace(CPU, elevation=1.0, largest=None), LOAD), missing=())
    assert paragraph(usual) == "Score: 2× the threshold. No feature is above its baseline."


def test_without_an_event_it_says_no_since_and_with_all_features_nothing_of_missing_ones():
    quiet = replace(JUDGED, score=0.3, features=(), missing=())
    assert paragraph(quiet).startswith("Score: 0.1× the threshold. No feature")
    assert "current samples" not in paragraph(quiet)


def test_a_value_below_what_is_expected_and_one_that_is_missing_are_told_apart():
    cpu = replace(CPU, largest=None)
    below = feature_sentence(replace(cpu, observed=0.1))
    assert "observed 0.1, below the expected 0.25" in below
    missing = feature_sentence(replace(cpu, observed=float("nan")))
    assert "no current sample, expected 0.25; error 2.5× its baseline" in missing


def test_without_a_score_it_says_why():
    assert paragraph(Verdict(0.0, State.WARMING, 1.0, why="4 of 30 samples of a window")) == (
        "Warming: 4 of 30 samples of a window."
    )


def test_features_come_largest_first_and_those_without_a_part_are_left_out():
    nothing = FeatureView("disk", 0.0, 0.0, 1.0, 1.0)
    explained = explain(replace(JUDGED, features=(nothing, LOAD, CPU)), 1.0)
    assert [view.name for view in explained.features] == ["cpu", "load"]
    assert explained.paragraph == paragraph(explained.verdict, 1.0)
    assert "disk" not in explained.paragraph


def test_three_features_are_named_at_most():
    views = tuple(FeatureView(name, 1.0, 0.2, 1.0, 1.0, elevation=2.0) for name in "abcde")
    assert paragraph(replace(JUDGED, features=views)).count(": 20% of the deviation") == 3


@pytest.mark.parametrize(
    ("factor", "text"),
    [
        (0.0, "<0.01×"),
        (0.009999, "<0.01×"),
        (0.01, "0.01×"),
        (1.12345, "1.12×"),
        (99.96, "100×"),
        (999.7, "1000×"),
        (1089.7, "1090×"),
        (10000.0, "10000×"),
        (10000.1, ">10000×"),
        (1e300, ">10000×"),
    ],
)
def test_a_factor_is_plain_at_every_size(factor, text):
    assert format_factor(factor) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.25, "-0.25"),
        (999.96, "1000"),
        (1234.56, "1235"),
        (-99999.4, "-99999"),
        (100000.0, "100k"),
        (999960.0, "1000k"),
        (12345678912.0, "12.35G"),
        (-5e27, "-5000Y"),
        (1.5e-7, "1.5e-07"),
    ],
)
def test_a_value_is_plain_up_to_a_hundred_thousand_and_has_an_si_prefix_above(value, text):
    assert format_value(value) == text


# Incidents

BOTH = {"latency_p99": 0.7, "errors": 0.3}


def book_of_web(count, of=200, **rules):
    """A book of an incident in which `count` of `of` groups deviate, from 22:13:20 on."""
    rules = replace(RULES, **rules)
    watched = survey_groups(
        [(("datacenter", "ab"[n < 100]), ("instance", f"web-{n}")) for n in range(of)], rules
    )
    book = IncidentBook(rules)
    events = [
        make_event(
            1.7e9 + n,
            features=BOTH if n < 31 else {"latency_p99": 1.0},
            instance=f"web-{n}",
            datacenter="b",
        )
        for n in range(count)
    ]
    book.update(1.7e9 + 60, began=events, watched=watched)
    return book


def say(book):
    (incident,) = book.open_incidents
    return incident_paragraph(incident)


def test_an_incident_says_how_many_groups_since_when_the_first_what_leads_and_what_they_share():
    assert say(book_of_web(40)) == (
        "40 of 200 groups deviate since 2023-11-14T22:13:20Z "
        '(first: datacenter="b", instance="web-0"). '
        "Leading features: latency_p99 (40 groups), errors (31). "
        'In common: datacenter="b".'
    )


def test_an_incident_names_its_scope_and_not_what_all_groups_share():
    assert say(book_of_web(2, of=100, scope=("datacenter",))).startswith(
        '2 of 100 groups in datacenter="b" deviate since'
    )
    assert "In common" not in say(book_of_web(2, of=100))


def test_an_incident_says_how_many_groups_still_deviate_and_when_it_was_over():
    book = book_of_web(3)
    first, second, third = book.open_incidents[0].members
    book.drop(1.7e9 + 90, first.group)
    assert "groups have deviated since 2023-11-14T22:13:20Z, 2 still do (first" in say(book)
    book.drop(1.7e9 + 90, second.group)
    assert ", 1 still does (first" in say(book)
    (ended,) = book.drop(1.7e9 + 90, third.group).ended
    assert "deviated from 2023-11-14T22:13:20Z to 2023-11-14T22:13:52Z (" in (
        incident_paragraph(ended)
    )


def test_an_incident_of_one_group_reads_as_its_event():
    for peak in (JUDGED, replace(JUDGED, missing=()), replace(JUDGED, features=(LOAD,))):
        event = replace(ANOMALOUS.event, peak=peak)
        book = IncidentBook(RULES)
        book.update(event.flagged_at, began=[event])
        assert say(book) == event_paragraph(event)


def test_an_incident_of_one_of_many_groups_names_it():
    event = replace(ANOMALOUS.event, labels=(("instance", "db-1"),))
    book = IncidentBook(RULES)
    book.update(event.flagged_at, began=[event])
    assert say(book) == f"db-1: {event_paragraph(event)}"
