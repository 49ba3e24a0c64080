"""The backends by name, and what each of them needs to be installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import NamedTuple

from promad.errors import PromadError
from promad.parallel.dask_cluster import open_dask
from promad.parallel.engine import Backend, Engine
from promad.parallel.processes import open_processes
from promad.parallel.ray_cluster import open_ray
from promad.parallel.running import require_same_version
from promad.parallel.spark_cluster import open_spark


class _Kind(NamedTuple):
    open: Callable[[Backend], AbstractContextManager[Engine]]
    modules: tuple[str, ...] = ()


BACKENDS: Mapping[str, _Kind] = {
    "loky": _Kind(open_processes),
    "dask": _Kind(open_dask, ("dask", "distributed")),
    "ray": _Kind(open_ray, ("ray",)),
    "spark": _Kind(open_spark, ("pyspark", "joblibspark")),
}
"""What `--backend` may name."""


@contextmanager
def open_engine(backend: Backend) -> Iterator[Engine]:
    """The backend, ready for work; all of its workers have this version of promad.

    Raises:
        PromadError: if it is not installed, does not answer, or workers have another version.
    """
    if backend.name == "inline":
        yield Engine("inline")
        return
    require_backend(backend)
    with BACKENDS[backend.name].open(backend) as engine:
        require_same_version(engine)
        yield engine


def require_backend(backend: Backend) -> None:
    """Refuse a backend that is not installed, or a scheduler that it has no use for.

    Raises:
        PromadError: naming what is missing.
    """
    if backend.name == "inline":
        return
    if backend.name == "loky" and backend.scheduler is not None:
        raise PromadError(
            f"--scheduler {backend.scheduler}: the backend loky has none, it uses processes on "
            "this machine — add --backend dask, ray or spark"
        )
    missing = [name for name in BACKENDS[backend.name].modules if find_spec(name) is None]
    if missing:
        raise PromadError(
            f"--backend {backend.name} needs {', '.join(missing)} (not installed) — pip install "
            f"'promad-exporter[{backend.name}]'"
        )
