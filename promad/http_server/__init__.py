"""An HTTP server in its own thread, which no client can occupy.

server      the socket and the thread
connections time limits of each connection, and the limit on their number
drain       reads the rest of a request that is answered early, so that the answer arrives
library_log log lines of uvicorn and asyncio, through our logger, at a limited rate
rate_limit  the limit itself
"""

from __future__ import annotations

from promad.http_server.connections import CLOSE_REASONS, OnClose
from promad.http_server.server import WebServer, listen

__all__ = ["CLOSE_REASONS", "OnClose", "WebServer", "listen"]
