"""The page at `/`: files of this package, and plotly's script as the installed package has it.

Every file's address carries a stamp of all of them, so that a browser keeps what it has until an
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
"""What a browser may load and run for the page; `data:` is for the heat map, which plotly draws as
an image.
"""

_PLOTLY = "plotly.min.js"
_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def page_routes() -> list[BaseRoute]:
    """`/` and the files below `/static/`. GET and HEAD."""
    return [Route("/", _page), Route("/static/{stamp}/{name}", _file)]


def _page(request: Request) -> Response:
    headers = {"content-security-policy": POLICY, "cache-control": _ASK_AGAIN}
    html = _files()["index.html"].replace(b"{stamp}", _stamp().encode())
    return _answer(request, html, "index.html", headers)


def _file(request: Request) -> Response:
    name = request.path_params["name"]
    # A page that was loaded before an upgrade still finds its files, and keeps none of them.
    current = request.path_params["stamp"] == _stamp()
    headers = {"cache-control": _FOR_EVER if current else _ASK_AGAIN}
    if name == _PLOTLY:
        return _plotly_answer(request, headers)
    if name == "index.html" or name not in _files():
        raise HTTPException(404)
    return _answer(request, _files()[name], name, headers)


def _plotly_answer(request: Request, headers: Mapping[str, str]) -> Response:
    path = _plotly_path()
    if path is None:
        raise HTTPException(404, "plotly is not installed, or has no plotly.min.js")
    headers = {**headers, "vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        return _answer(request, _compressed_plotly(path), _PLOTLY, headers)
    return FileResponse(path, headers=headers, media_type=_MEDIA_TYPES[".js"])


def _answer(request: Request, content: bytes, name: str, headers: Mapping[str, str]) -> Response:
    """The content, or that the browser has it already."""
    headers = {**headers, "etag": f'W/"{_stamp()}"'}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_MEDIA_TYPES[PurePath(name).suffix], headers=headers)


@functools.cache
def _files() -> Mapping[str, bytes]:
    """The page's own files by name."""
    folder = resources.files("promad.web").joinpath("static")
    return {
        entry.name: entry.read_bytes()
        for entry in folder.iterdir()
        if PurePath(entry.name).suffix in _MEDIA_TYPES
    }


@functools.cache
def _stamp() -> str:
    """Twelve letters and digits that change whenever any file does."""
    digest = hashlib.sha256()
    for name, content in sorted(_files().items()):
        digest.update(name.encode() + content)
    if _plotly_path() is not None:
        digest.update(importlib.metadata.version("plotly").encode())
    return digest.hexdigest()[:12]


@functools.cache
def _plotly_path() -> Path | None:
    """Where plotly's script is, found without importing plotly and all that it takes along."""
    spec = importlib.util.find_spec("plotly")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "package_data" / _PLOTLY
    return path if path.is_file() else None


@functools.cache
def _compressed_plotly(path: Path) -> bytes:
    """The script compressed, once: 1.5 MB in place of 4.8."""
    return gzip.compress(path.read_bytes(), mtime=0)
