"""`serve`: answer requests to score with the current bundles, without Prometheus and state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from promad.clock import Clock
from promad.config import Config
from promad.detection.scoring_service import ScoringService
from promad.web.app import build_app
from promad.web.serving import UNPROTECTED, OpenPort, WebOptions, open_port


@contextmanager
def serve(
    configs: Sequence[Config],
    clock: Clock,
    address: tuple[str, int],
    web: WebOptions = UNPROTECTED,
) -> Iterator[tuple[ScoringService, OpenPort]]:
    """Serve until the block ends; yields the service and its port.

    Args:
        address: the interface to listen on, empty for every one, and the port, 0 for any free one.

    Raises:
        PromadError: if the port is taken, or a bundle is missing, damaged or does not fit.
    """
    service = ScoringService(configs, clock)
    with open_port(
        lambda score: build_app(
            service.registry,
            service.served,
            service.is_ready,
            clock.now,
            score=score,
            ask_reload=web.ask_reload,
            live=False,
        ),
        service.registry,
        clock,
        address,
        web,
    ) as port:
        service.start(configs)
        yield service, port
