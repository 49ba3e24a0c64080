"""Limits on the whole of an answer.

The timeout of a socket holds for each wait alone: a server that sends a byte now and then never
reaches it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection


@contextmanager
def end_after(seconds: float, shut_down: Callable[[], object]) -> Iterator[Callable[[], bool]]:
    """Shut a connection down after a while, which ends whatever is read from it.

    Yields:
        Whether it was: then what was read last may be cut short.
    """
    over = threading.Event()

    def end() -> None:
        over.set()
        with suppress(OSError, RuntimeError, ValueError):  # closed, or complete, at that moment
            shut_down()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield over.is_set
    finally:
        timer.cancel()


class _LimitedHeaders(HTTPConnection):
    """A connection whose timeout holds for the status and the headers as a whole."""

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        connected, seconds = self.sock, self.timeout
        if not isinstance(seconds, int | float):
            return super().getresponse()
        with end_after(seconds, lambda: connected.shutdown(socket.SHUT_RDWR)) as is_over:
            try:
                response = super().getresponse()
            except (OSError, HTTPException):
                if is_over():
                    raise TimeoutError from None
                raise
            if is_over():  # what looks like the end of the headers is that of the connection
                response.close()
                raise TimeoutError
            return response


class _LimitedHeadersWithTls(_LimitedHeaders, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _LimitedHeaders


class _PoolWithTls(HTTPSConnectionPool):
    ConnectionCls = _LimitedHeadersWithTls


_POOLS = {"http": _Pool, "https": _PoolWithTls}


class LimitedAdapter(HTTPAdapter):
    """Connections whose timeout holds for the status and the headers as a whole."""

    def init_poolmanager(self, *sizes: Any, **options: Any) -> None:
        super().init_poolmanager(*sizes, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        if not proxy.lower().startswith("socks"):  # has connections of its own
            manager.pool_classes_by_scheme = _POOLS
        return manager
