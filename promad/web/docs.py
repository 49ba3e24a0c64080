"""`/docs`: Swagger UI for the API, offline; its files come with the package `fastapi-swagger`."""

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


def create_docs_routes() -> list[BaseRoute]:
    """`/docs` and the files below it. GET and HEAD."""
    return [Route("/docs", _get_page), Route("/docs/{name}", _get_file)]


def _get_page(request: Request) -> FileResponse:
    headers = {"content-security-policy": POLICY}
    return FileResponse(_find_file(_PAGE), media_type="text/html", headers=headers)


def _get_file(request: Request) -> FileResponse:
    name = request.path_params["name"]
    if name not in {*_OURS[1:], *_THEIRS}:
        raise HTTPException(404)
    return FileResponse(_find_file(name))


def _find_file(name: str) -> Path:
    """The path of a file. Does not import `fastapi_swagger`, which would patch FastAPI."""
    if name in _OURS:
        return Path(str(resources.files("promad.web"))) / "swagger" / name
    spec = importlib.util.find_spec("fastapi_swagger")
    if spec is None or spec.origin is None:
        raise HTTPException(404, "fastapi-swagger is not installed — pip install fastapi-swagger")
    return Path(spec.origin).parent / "resources" / name
