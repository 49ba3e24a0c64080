"""`SideQuery`: a query that is asked in a thread of its own, so that it does not delay a tick."""

from __future__ import annotations

import threading
from collections.abc import Callable

from promad.errors import PrometheusError


class SideQuery[Found]:
    """One query; only the thread of the loop calls `begin` and `read`.

    A request that takes longer than a tick is not repeated meanwhile.

    Args:
        ask: asks the server for what is found at a time, in unix seconds.
    """

    def __init__(self, query: str, ask: Callable[[str, float], Found]) -> None:
        self.query = query
        self._ask = ask
        self._thread: threading.Thread | None = None
        self._found: tuple[float, Found | Exception] | None = None

    def begin(self, at: float) -> bool:
        """Ask for what is found at a time, unless the answer to an earlier request is awaited.

        Returns:
            Whether it asked.
        """
        if self._thread is not None and self._thread.is_alive():
            return False
        self._found = None
        self._thread = threading.Thread(target=self._run, args=(at,), daemon=True)
        self._thread.start()
        return True

    def _run(self, at: float) -> None:
        try:
            self._found = (at, self._ask(self.query, at))
        except Exception as error:  # noqa: BLE001 - it is raised again by `read`
            self._found = (at, error)

    def read(self, wait: float = 0.0) -> tuple[float, Found] | None:
        """The answer and the time that it is about, once; None if it has not arrived.

        Args:
            wait: seconds to wait for it.

        Raises:
            PrometheusError: if the query failed.
        """
        if self._thread is not None and wait > 0:
            self._thread.join(wait)
        if self._found is None:
            return None
        (at, found), self._found = self._found, None
        if isinstance(found, PrometheusError):
            raise found
        if isinstance(found, Exception):
            raise PrometheusError(f"query {self.query}: {found!r}", "bad_answer") from found
        return at, found
