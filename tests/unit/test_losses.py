"""A feature that costs many rows is named with its share and a remedy, and is not trained past."""

import numpy as np
import pytest

from promad.cli.commands.collect import format_collected
from promad.cli.commands.preprocess import format_preprocessed
from promad.cli.losses import format_losses
from promad.data.losses import find_large_losses
from promad.errors import DataError
from promad.stages.collect import collect
from promad.stages.preprocess import preprocess
from promad.stages.train import train
from tests.support.prometheus_stub import curves, stub_server
from tests.support.simulated import (
    NAMES,
    NOW,
    START,
    STEP,
    config_for,
    frame_of,
    host_values,
    silent,
    write_raw,
)

FILLED = "ffill_then_bfill"


def with_gap(first, last, rows=1000):
    """A history in which the second feature is missing in some rows."""
    values = host_values(rows)
    values[first:last, 1] = np.nan
    return values


def losses_of(values, strategy=FILLED, limit=5):
    return find_large_losses([frame_of(values)], strategy, limit)


def test_a_feature_that_costs_more_than_a_tenth_is_found_with_its_share():
    (loss,) = losses_of(with_gap(300, 500))
    assert (loss.feature, loss.share, loss.begins) == (NAMES[1], 0.2, None)


def test_a_tenth_is_accepted():
    assert losses_of(with_gap(300, 400)) == ()


def test_the_largest_loss_comes_first():
    values = with_gap(300, 500)
    values[100:600, 2] = np.nan
    assert [loss.feature for loss in losses_of(values)] == [NAMES[2], NAMES[1]]


def test_what_begins_late_is_found_with_its_begin():
    (loss,) = losses_of(with_gap(0, 600))
    assert loss.begins == START + 600 * STEP


def test_short_gaps_cost_nothing_unless_rows_are_dropped():
    values = host_values(1000)
    values[::3, 1] = np.nan
    assert losses_of(values) == ()
    (loss,) = losses_of(values, "drop_rows")
    assert loss.share == pytest.approx(1 / 3, abs=0.01)


def test_what_all_features_miss_is_the_fault_of_none():
    values = host_values(1000)
    values[100:900] = np.nan
    assert losses_of(values) == ()


def test_the_warning_names_the_share_and_the_remedy():
    (line,) = format_losses(losses_of(with_gap(300, 500)))
    assert line == (
        f"  warning: {NAMES[1]} is missing in 20% of the rows; rows with a missing value are "
        "dropped for every feature — append `or vector(0)` to the query if no sample means 0, "
        "or remove the query"
    )
    (late,) = format_losses(losses_of(with_gap(0, 600)))
    assert "missing in 60% of the rows, most of them before its first value at 20" in late
    assert "collect a period that begins later" in late


@pytest.fixture
def sparse(tmp_path):
    """A history in which one feature is there in the first and the last 80 rows alone."""
    values = host_values(2000)
    values[80:1920, 1] = np.nan
    config = config_for(tmp_path, training_settings={"model": "linear"})
    write_raw(config, [frame_of(values)])
    return config


def test_preprocess_warns_of_it(sparse):
    lines = list(format_preprocessed(preprocess(sparse)))
    (warning,) = [line for line in lines if "warning" in line]
    assert f"{NAMES[1]} is missing in 92% of the rows" in warning


def test_collect_warns_of_it(tmp_path):
    known = {
        "a": [({}, lambda t: t)],
        "b": [({}, lambda t: t if t < 60 or t > 500 else None)],
    }
    with stub_server(curves(known)) as stub:
        period = {"start_time_iso": 0.0, "end_time_iso": 585.0}
        config = config_for(tmp_path, queries={"x": "a", "y": "b"}, data_settings=period)
        done = collect(config.model_copy(update={"prometheus_url": stub.url}), now=NOW)
    lines = list(format_collected(done))
    assert any("warning: y is missing in 7" in line for line in lines)
    assert lines[-1].startswith("collect: ")


def test_a_small_remainder_is_trained_on_only_by_force(sparse):
    preprocess(sparse)
    with pytest.raises(DataError) as caught:
        train(sparse, silent, now=lambda: NOW)
    assert str(caught.value) == (
        f"only 160 of 2000 rows have a value for every query; missing: {NAMES[1]} in 92% of the "
        "rows — append `or vector(0)` to a query if no sample means 0, or remove it, and run "
        "promad collect and preprocess again; --force trains on the rest"
    )
    assert train(sparse, silent, now=lambda: NOW, force=True).training_windows > 0
