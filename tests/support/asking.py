"""A client that remembers what it was told to ask."""

from __future__ import annotations

from typing import Any

from promad.prometheus import PrometheusClient
from tests.support.prometheus_stub import split_union


class RecordingClient(PrometheusClient):
    """Remembers the queries of each range request in `requests`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.requests: list[list[str]] = []

    def ask_range(self, expr: str, *arguments: Any, **options: Any) -> bytes:
        """The answer of the server."""
        self.requests.append(split_union(expr) or [expr])
        return super().ask_range(expr, *arguments, **options)
