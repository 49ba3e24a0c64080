"""The page at `/`: files of this package, and the script of the installed plotly.

The URL of each file contains a stamp of all files, so that a browser can cache them until an
upgrade changes the stamp.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from importlib import resources
from pathlib import Path, PurePath

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""The content security policy of the page; `data:` allows the heat map, which plotly renders as an
image.
"""

_PLOTLY = "plotly.min.js"
_IMMUTABLE = "public, max-age=31536000, immutable"
_REVALIDATE = "no-cache"
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def create_page_routes() -> list[BaseRoute]:
    """`/` and the files below `/static/`. GET and HEAD."""
    return [Route("/", _get_page), Route("/static/{stamp}/{name}", _get_file)]


def _get_page(request: Request) -> Response:
    headers = {"content-security-policy": POLICY, "cache-control": _REVALIDATE}
    html = _read_files()["index.html"].replace(b"{stamp}", _compute_stamp().encode())
    return _send(request, html, "index.html", headers)


def _get_file(request: Request) -> Response:
    name = request.path_params["name"]
    # A page loaded before an upgrade still finds its files, but must not cache them.
    current = request.path_params["stamp"] == _compute_stamp()
    headers = {"cache-control": _IMMUTABLE if current else _REVALIDATE}
    if name == _PLOTLY:
        return _send_plotly(request, headers)
    if name == "index.html" or name not in _read_files():
        raise HTTPException(404)
    return _send(request, _read_files()[name], name, headers)


def _send_plotly(request: Request, headers: Mapping[str, str]) -> Response:
    path = _find_plotly()
    if path is None:
        raise HTTPException(404, "plotly.min.js was not found — pip install plotly")
    headers = {**headers, "vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        return _send(request, _compress(path), _PLOTLY, headers)
    return FileResponse(path, headers=headers, media_type=_MEDIA_TYPES[".js"])


def _send(request: Request, content: bytes, name: str, headers: Mapping[str, str]) -> Response:
    """The content, or 304 if the browser has it in its cache."""
    headers = {**headers, "etag": f'W/"{_compute_stamp()}"'}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_MEDIA_TYPES[PurePath(name).suffix], headers=headers)


@functools.cache
def _read_files() -> Mapping[str, bytes]:
    """The files of the page by name."""
    folder = resources.files("promad.web").joinpath("static")
    return {
        entry.name: entry.read_bytes()
        for entry in folder.iterdir()
        if PurePath(entry.name).suffix in _MEDIA_TYPES
    }


@functools.cache
def _compute_stamp() -> str:
    """Twelve hexadecimal digits that change with every file."""
    digest = hashlib.sha256()
    for name, content in sorted(_read_files().items()):
        digest.update(name.encode() + content)
    if _find_plotly() is not None:
        digest.update(importlib.metadata.version("plotly").encode())
    return digest.hexdigest()[:12]


@functools.cache
def _find_plotly() -> Path | None:
    """The path of plotly's script; does not import plotly, which is slow."""
    spec = importlib.util.find_spec("plotly")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "package_data" / _PLOTLY
    return path if path.is_file() else None


@functools.cache
def _compress(path: Path) -> bytes:
    """The script, compressed once: 1.5 MB instead of 4.8 MB."""
    return gzip.compress(path.read_bytes(), mtime=0)
