"""`/docs`: the API in a browser, offline. Swagger UI's own files come with `fastapi-swagger`."""

from __future__ import annotations

import importlib.util
from importlib import resources
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import BaseRoute, Route

from promad.web.page import POLICY

_PAGE = "index.html"
_OURS = (_PAGE, "init.js")
_THEIRS = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")


def docs_routes() -> list[BaseRoute]:
    """`/docs` and the files below it. GET and HEAD."""
    return [Route("/docs", _page), Route("/docs/{name}", _file)]


def _page(request: Request) -> FileResponse:
    headers = {"content-security-policy": POLICY}
    return FileResponse(_path(_PAGE), media_type="text/html", headers=headers)


def _file(request: Request) -> FileResponse:
    name = request.path_params["name"]
    if name not in {*_OURS[1:], *_THEIRS}:
        raise HTTPException(404)
    return FileResponse(_path(name))


def _path(name: str) -> Path:
    """Where a file lies; Swagger UI's are found without importing what patches FastAPI."""
    if name in _OURS:
        return Path(str(resources.files("promad.web"))) / "swagger" / name
    spec = importlib.util.find_spec("fastapi_swagger")
    if spec is None or spec.origin is None:
        raise HTTPException(404, "fastapi-swagger is not installed — install promad-exporter whole")
    return Path(spec.origin).parent / "resources" / name
