"""Explanations: what they contain, in which order and in which words."""

from dataclasses import replace

import pytest

from promad.events.explanation import (
    explain,
    feature_sentence,
    format_factor,
    format_value,
    paragraph,
)
from promad.events.verdict import FeatureView, State, Verdict
from tests.support.statuses import ANOMALOUS, CPU, JUDGED, LOAD


def test_a_paragraph_says_how_bad_since_when_what_drives_it_and_what_is_missing():
    assert paragraph(JUDGED, ANOMALOUS.event.start) == (
        "Score: 2× the threshold; anomalous since 2023-11-14T22:12:20Z. "
        "cpu: 75% of the deviation; observed 0.9, above the expected 0.25; "
        "error 2.5× its baseline since 2023-11-14T22:12:20Z. "
        "Only 50% of the features have current samples."
    )


def test_only_features_that_deviate_are_named_and_without_any_it_says_so():
    usual = replace(JUDGED, features=(replace(CPU, elevation=1.0), LOAD), missing=())
    assert paragraph(usual) == "Score: 2× the threshold. No feature is above its baseline."


def test_without_an_event_it_says_no_since_and_with_all_features_nothing_of_missing_ones():
    quiet = replace(JUDGED, score=0.3, features=(), missing=())
    assert paragraph(quiet).startswith("Score: 0.1× the threshold. No feature")
    assert "current samples" not in paragraph(quiet)


def test_a_value_below_what_is_expected_and_one_that_is_missing_are_told_apart():
    below = feature_sentence(replace(CPU, observed=0.1))
    assert "observed 0.1, below the expected 0.25" in below
    missing = feature_sentence(replace(CPU, observed=float("nan")))
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
