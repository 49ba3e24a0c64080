"""A file of HTTP client settings, with the keys of `prometheus` in a configuration.

promtool reads files of the same form with `--http.config.file`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from promad.config.document import Document, NotYamlError, parse_document
from promad.config.reading import read_text, validate_document
from promad.config.server_settings import PrometheusSettings
from promad.errors import ConfigError

_SECRETS = {
    *("password", "credentials", "secrets", "client_secret", "secret_key"),
    *("key", "proxy_connect_header"),
}
"""Keys whose values are secrets in plain text."""


def read_http_config(path: Path) -> tuple[PrometheusSettings, Mapping[str, Any]]:
    """The settings in a file, and its keys as they are written.

    The keys are at the top level, as for promtool, or below `prometheus:`, as in a configuration.

    Raises:
        ConfigError: with one line for every mistake.
    """
    try:
        document = parse_document(read_text(path, "--http.config.file"))
    except NotYamlError as error:
        raise ConfigError([f"{path}:{error.line}: {error}"]) from None
    document = _move_to_section(document)
    config = validate_document(document, str(path), path.absolute().parent)
    return config.prometheus, document.values["prometheus"]


def _move_to_section(document: Document) -> Document:
    """The document of a configuration with these settings, and the least that it needs."""
    inside = isinstance(document.values.get("prometheus"), dict)
    section = document.values["prometheus"] if inside else document.values
    lines = (
        document.lines
        if inside
        else {("prometheus", *place): line for place, line in document.lines.items()}
    )
    values = {"prometheus": section, "prometheus_url": "https://server", "queries": {"any": "up"}}
    return replace(document, values=values, lines=lines)


def move_paths(values: Mapping[str, Any], source: Path, target: Path) -> dict[str, Any]:
    """The same keys with paths relative to the directory `target` instead of `source`."""
    return {key: _move_value(key, value, source, target) for key, value in values.items()}


def _move_value(key: str, value: Any, source: Path, target: Path) -> Any:
    if isinstance(value, Mapping):
        return move_paths(value, source, target)
    if key == "files" and isinstance(value, list):
        return [_move_path(each, source, target) for each in value]
    return _move_path(value, source, target) if key.endswith("_file") else value


def _move_path(value: str, source: Path, target: Path) -> str:
    if str(value).startswith(("/", "~")):
        return value
    return os.path.relpath(source.absolute() / value, target.absolute())


def has_secrets(values: Mapping[str, Any]) -> bool:
    """Whether any of the keys holds a secret in plain text."""
    return any(
        (key in _SECRETS and value) or (isinstance(value, Mapping) and has_secrets(value))
        for key, value in values.items()
    )
