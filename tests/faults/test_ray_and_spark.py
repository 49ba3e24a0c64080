"""Groups fitted by a real Ray, and by Spark in local mode, where these are installed."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from promad.config import load_config
from promad.parallel.backend import BACKENDS, open_engine
from promad.parallel.engine import Backend
from promad.parallel.running import LOST, Failure, run_each
from promad.stages.preprocess import preprocess
from promad.training.group_runs import fit_groups, read_fit
from tests.support.parallel_work import fail_some
from tests.support.small_fleet import (
    SAMPLES,
    SmallFleet,
    open_material,
    write_collected,
    write_config,
)

FLEET = SmallFleet({"a": (0, SAMPLES), "b": (0, SAMPLES), "short": (400, 460)})
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray and Spark have many of their own
]


@pytest.fixture(params=["ray", "spark"])
def name(request):
    if any(find_spec(module) is None for module in BACKENDS[request.param].modules):
        pytest.skip(f"{request.param} is not installed")
    return request.param


def test_groups_are_fitted_as_they_are_here(name, tmp_path) -> None:
    config = load_config(
        write_config(tmp_path / "c.yaml", "http://s", training="model_scope: per_group")
    )
    write_collected(config, FLEET)
    preprocess(config)
    material, settings = open_material(config), config.training_settings
    here = fit_groups(material, settings, tmp_path / "here", Backend("inline"))
    there = fit_groups(material, settings, tmp_path / "there", Backend(name, jobs=2))
    assert (sorted(there.done), sorted(there.too_few), there.failed) == ([0, 1], [2], {})
    for group in there.done:
        ours, theirs = read_fit(here.done[group]), read_fit(there.done[group])
        np.testing.assert_allclose(theirs.weights, ours.weights, rtol=1e-4, atol=1e-5)


def test_a_task_that_ends_its_worker_fails_alone(name) -> None:
    with open_engine(Backend(name, jobs=2)) as engine:
        found = dict(run_each(fail_some, 10, ((number, number) for number in range(8)), engine))
    expected = {number: 10 * number for number in range(8)}
    assert found == expected | {3: Failure("ValueError: three is not allowed"), 5: LOST}
