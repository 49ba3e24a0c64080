"""`--set section.key=value`: changes to a document before it is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from promad.config.document import Document, NotYamlError, Place, parse_document
from promad.errors import ConfigError


def apply_overrides(document: Document, overrides: Sequence[str]) -> Document:
    """The document with keys set, each from `section.key=value`; the last one for a key counts.

    A value is read as YAML. A key that it sets has line 0, because it is in no line of the file.

    Raises:
        ConfigError: if one has another form, or sets a key below a value.
    """
    for override in overrides:
        key, equals, text = override.partition("=")
        place: Place = tuple(key.strip().split("."))
        if not equals or not all(place):
            raise ConfigError([f"--set: {override}: not KEY=VALUE — write section.key=value"])
        values = _set_key(document.values, place, _parse_value(key, text), key)
        above = {place[:depth]: 0 for depth in range(1, len(place))}
        old = {at: line for at, line in document.lines.items() if at[: len(place)] != place}
        document = replace(document, values=values, lines={**above, **old, place: 0})
    return document


def _parse_value(key: str, text: str) -> Any:
    try:
        return parse_document(f"value: {text}").values["value"]
    except NotYamlError as error:
        raise ConfigError([f"--set: {key}: {error}"]) from None


def _set_key(values: Mapping[str, Any], place: Place, value: Any, key: str) -> dict[str, Any]:
    """A copy of a mapping in which one key, however deep, is another."""
    first, *rest = map(str, place)
    if not rest:
        return {**values, first: value}
    inner = values.get(first)
    if inner is not None and not isinstance(inner, dict):
        raise ConfigError([f"--set: {key}: {first} is a value, not a section — set {first} itself"])
    return {**values, first: _set_key(inner or {}, tuple(rest), value, key)}
