"""Explanations: what is said of a sample, in which order and in which words."""

from dataclasses import replace

from promad.events.explanation import explain, feature_sentence, paragraph
from promad.events.verdict import FeatureView, State, Verdict
from tests.contract.test_exposition import ANOMALOUS, CPU, JUDGED, LOAD


def test_a_paragraph_says_how_bad_since_when_what_drives_it_and_what_is_missing():
    assert paragraph(JUDGED, ANOMALOUS.event.start) == (
        "The score is 2 times the threshold, anomalous since 2023-11-14T22:12:20Z. "
        "cpu makes 75% of the excess: it is above what is expected, 0.9 against 0.25; "
        "its recent error is 2.5 times the usual, since 2023-11-14T22:12:20Z. "
        "50% of the features are known."
    )


def test_only_features_that_deviate_are_named_and_without_any_it_says_so():
    usual = replace(JUDGED, features=(replace(CPU, elevation=1.0), LOAD), missing=())
    assert paragraph(usual) == "The score is 2 times the threshold. No feature deviates by itself."


def test_without_an_event_it_says_no_since_and_with_all_features_nothing_of_missing_ones():
    quiet = replace(JUDGED, score=0.3, features=(), missing=())
    assert paragraph(quiet).startswith("The score is 0.1 times the threshold. No feature")
    assert "known" not in paragraph(quiet)


def test_a_value_below_what_is_expected_and_one_that_is_missing_are_told_apart():
    assert "it is below what is expected, 0.1 against 0.25" in feature_sentence(
        replace(CPU, observed=0.1)
    )
    missing = feature_sentence(replace(CPU, observed=float("nan")))
    assert (
        "it has no sample now, where 0.25 is expected; its recent error is 2.5 times the usual"
        in missing
    )


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
    assert paragraph(replace(JUDGED, features=views)).count("makes 20%") == 3
