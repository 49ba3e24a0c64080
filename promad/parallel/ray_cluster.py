"""`ray`: the actors of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from promad.parallel.engine import (
    Backend,
    Engine,
    build_connect_error,
    count_processors,
    set_environment,
)

_TASKS_PER_ACTOR = 50
"""Results come at the end of so many, and are kept then."""

_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@contextmanager
def open_ray(backend: Backend) -> Iterator[Engine]:
    """The processors of the cluster, or of one that is started here.

    Actors end with each call, so memory that a library leaks is returned.

    Raises:
        PromadError: if the cluster does not answer.
    """
    with set_environment(_ENVIRONMENT):
        import ray
        from ray.exceptions import RayError
        from ray.util.joblib import register_ray

        here = None if backend.scheduler else backend.jobs or count_processors()
        try:
            ray.init(
                address=backend.scheduler,
                num_cpus=here,
                include_dashboard=None if backend.scheduler else False,
                log_to_driver=False,
                logging_level="error",
            )
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            why = " ".join(str(error).split())
            raise build_connect_error(backend, "Ray", why, "ray start --head") from error
        try:
            register_ray()
            jobs = backend.jobs or int(ray.cluster_resources().get("CPU", 1))
            yield Engine(
                "ray",
                jobs,
                lambda: {"backend": "ray", "n_jobs": jobs},
                streams=False,
                tasks_per_call=_TASKS_PER_ACTOR * jobs,
                lost=(RayError,),
            )
        finally:
            ray.shutdown()
