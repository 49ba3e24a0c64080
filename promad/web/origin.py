"""Requests that a browser sends for a page of another site."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request


def refuse_other_sites(request: Request, instead: str) -> None:
    """Refuse what a browser sends for a page of another origin; other clients send neither header.

    Args:
        instead: what to use, for the message.

    Raises:
        HTTPException: 403.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    same_site = site is None or site in {"same-origin", "none"}
    same_origin = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if not (same_site and same_origin):
        raise HTTPException(403, f"sent by a page of another site — use {instead}")
