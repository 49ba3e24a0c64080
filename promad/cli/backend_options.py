"""Where work is done: the options of commands that can use several processes or a cluster."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from promad.config import Config
from promad.config.http_config import has_secrets
from promad.errors import PromadError
from promad.parallel.engine import Backend


class BackendName(StrEnum):
    """What does the work."""

    LOKY = "loky"
    DASK = "dask"
    RAY = "ray"
    SPARK = "spark"


BackendOption = Annotated[
    BackendName | None,
    typer.Option(
        "--backend",
        help="What does the work: processes on this machine (loky), or the workers of Dask, Ray or "
        "Spark.",
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="URL",
        help="Cluster of --backend, such as tcp://HOST:8786, ray://HOST:10001 or "
        "spark://HOST:7077 (default: one on this machine).",
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        metavar="N",
        min=1,
        help="Number of tasks at the same time (default: one for each worker or processor).",
    ),
]


RequestsOption = Annotated[
    int,
    typer.Option(
        "--requests",
        metavar="N",
        min=1,
        help="With --backend: requests to the server at the same time, over all workers.",
    ),
]
SendSecretsOption = Annotated[
    bool,
    typer.Option(
        "--send-secrets",
        metavar="",
        help="With --scheduler: send the passwords and tokens of prometheus to the workers.",
    ),
]


def choose_fetching(
    config: Config, backend: Backend | None, requests: int, send_secrets: bool
) -> Backend | None:
    """The backend that asks the server.

    Raises:
        PromadError: if there are no groups, or secrets would be sent that nobody asked for.
    """
    if backend is None:
        return None
    if not config.group_by:
        raise PromadError(
            f"--backend {backend.name} needs group_by in the configuration — set it, or omit "
            "--backend"
        )
    travels = backend.scheduler is not None and not send_secrets
    if travels and has_secrets(config.prometheus.model_dump()):
        raise PromadError(
            f"--scheduler {backend.scheduler}: the workers would get the passwords or tokens of "
            "prometheus — use files that each worker has, such as password_file, or add "
            "--send-secrets"
        )
    return replace(backend, requests=requests)


def choose_backend(
    name: BackendName | None, scheduler: str | None, jobs: int | None
) -> Backend | None:
    """The backend that the options name; None if they name none.

    Raises:
        PromadError: if it is not installed, or has no use for a scheduler.
    """
    if name is None and scheduler is not None:
        raise PromadError(
            f"--scheduler {scheduler} needs --backend: add --backend dask, ray or spark"
        )
    if name is None:
        return None
    from promad.parallel.backend import require_backend

    backend = Backend(name.value, scheduler, jobs)
    require_backend(backend)
    return backend
