"""An HTTP server in its own thread, which no client can occupy.

server      the socket and the thread
handshake   TLS handshakes, which no client can draw out
tls         the context of the handshake
web_config  the web configuration file, in Prometheus's format
security    how that file protects the port, and its next version
passwords   bcrypt, off the event loop, and what it has verified
connections time limits of each connection, and the limit on their number
drain       reads the rest of a request that is answered early, so that the answer arrives
library_log log lines of uvicorn and asyncio, through our logger, at a limited rate
rate_limit  the limit itself
"""

from __future__ import annotations

from promad.http_server.connections import CLOSE_REASONS, OnClose
from promad.http_server.security import Security, WatchedSecurity, load_security
from promad.http_server.server import WebServer, listen

__all__ = [
    "CLOSE_REASONS",
    "OnClose",
    "Security",
    "WatchedSecurity",
    "WebServer",
    "listen",
    "load_security",
]
