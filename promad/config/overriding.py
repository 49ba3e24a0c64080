"""What `--set section.key=value` changes in a document before it is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from promad.config.document import Document, NotYamlError, Place, parse_document
from promad.errors import ConfigError


def overridden(document: Document, overrides: Sequence[str]) -> Document:
    """The document with keys set, each from `section.key=value`; the last one for a key counts.

    A value is read as YAML. What it sets has line 0, because no line of the file says it.

    Raises:
        ConfigError: if one is no such text, or sets a key below a value.
    """
    for override in overrides:
        key, equals, text = override.partition("=")
        place: Place = tuple(key.strip().split("."))
        if not equals or not all(place):
            raise ConfigError([f"--set: {override}: is not KEY=VALUE — write section.key=value"])
        values = _with(document.values, place, _value(key, text), key)
        above = {place[:depth]: 0 for depth in range(1, len(place))}
        old = {at: line for at, line in document.lines.items() if at[: len(place)] != place}
        document = replace(document, values=values, lines={**above, **old, place: 0})
    return document


def _value(key: str, text: str) -> Any:
    try:
        return parse_document(f"value: {text}").values["value"]
    except NotYamlError as error:
        raise ConfigError([f"--set: {key}: {error}"]) from None


def _with(values: Mapping[str, Any], place: Place, value: Any, key: str) -> dict[str, Any]:
    """A copy of a mapping in which one key, however deep, is another."""
    first, *rest = map(str, place)
    if not rest:
        return {**values, first: value}
    inner = values.get(first)
    if inner is not None and not isinstance(inner, dict):
        raise ConfigError([f"--set: {key}: {first} is a value, not a section — set {first} itself"])
    return {**values, first: _with(inner or {}, tuple(rest), value, key)}
