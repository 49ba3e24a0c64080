"""The daemon computes on one thread, unless the environment says otherwise."""

import os
import subprocess
import sys

import pytest

from promad.cli.daemon_life import THREAD_VARIABLES

SCRIPT = """
import sys
import promad.cli.app
from promad.cli import daemon_life
assert "numpy" not in sys.modules, "numpy would read its number of threads too early"
daemon_life.limit_threads()
import numpy
import os
numpy.ones((300, 300)) @ numpy.ones((300, 300))
print(os.environ["OPENBLAS_NUM_THREADS"], len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc")
@pytest.mark.parametrize(("given", "expected"), [(None, "1 1"), ("2", "2 2")])
def test_numpy_has_as_many_threads_as_the_environment_says_or_one(given, expected):
    environment = {
        name: value for name, value in os.environ.items() if name not in THREAD_VARIABLES
    }
    if given is not None:
        environment["OPENBLAS_NUM_THREADS"] = given
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    count = min(int(expected[0]), os.cpu_count() or 1)
    assert found.stdout.split() == [expected[0], str(count)]
