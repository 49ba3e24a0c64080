"""`spark`: the executors of a Spark cluster."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from promad.parallel.engine import (
    Backend,
    Engine,
    build_connect_error,
    count_processors,
    set_environment,
)

_TASKS_PER_CALL = 20
"""Of each executor. Results come at the end of a call, and are kept then."""


@contextmanager
def open_spark(backend: Backend) -> Iterator[Engine]:
    """The executors of the cluster, or of one that is started here.

    Raises:
        PromadError: if the cluster does not answer.
    """
    with set_environment(_find_python(backend)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="joblibspark|pyspark")
        from joblibspark import register_spark
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession

        jobs = backend.jobs or count_processors()
        builder = (
            SparkSession.builder.appName("promad")
            .master(backend.scheduler or f"local[{jobs}]")
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
        )
        try:
            session = builder.getOrCreate()
        except (OSError, Py4JError, PySparkException, RuntimeError) as error:
            why = str(error).strip().partition("\n")[0]
            command = "start-master.sh and start-worker.sh"
            raise build_connect_error(backend, "Spark", why, command) from error
        try:
            session.sparkContext.setLogLevel("ERROR")
            register_spark()
            yield Engine(
                "spark",
                jobs,
                lambda: {"backend": "spark", "n_jobs": jobs},
                streams=False,
                tasks_per_call=_TASKS_PER_CALL * jobs,
                lost=(Py4JError, PySparkException, TypeError),  # joblib-spark 0.6 returns the error
            )
        finally:
            session.stop()


def _find_python(backend: Backend) -> Mapping[str, str]:
    """The environment that names the Python of the workers; a cluster has its own."""
    if backend.scheduler is not None or "PYSPARK_PYTHON" in os.environ:
        return {}
    return {"PYSPARK_PYTHON": sys.executable}
