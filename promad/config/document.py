"""YAML as far as a configuration needs it: from text to plain values and the line of every key.

What is written is what is meant: keys are text, only what looks like a number is a number, and
only `true` and `false` are switches. Dates, `on`, `1:30` and `0x10` stay the text that they are,
which YAML 1.1 would turn into something else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

Place = tuple[str | int, ...]
Problem = tuple[Place, str]
"""Where a key is, and `what is wrong (value) — what to do`."""

_MOST_VALUES = 20_000
_CONSTANTS = {"": None, "~": None, "null": None, "true": True, "false": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_OWN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map")}
_SECRET = re.compile(r"(alias|anchor|tag|tag handle) .*", re.DOTALL)


class NotYamlError(Exception):
    """The text is not one YAML mapping: why, and at which `line`."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


@dataclass(frozen=True)
class Document:
    """The content of a file.

    Attributes:
        values: plain mappings, lists and scalars.
        lines: the line of each key and each list entry.
        joined: the first and the last line of each string of several lines that YAML joins.
        problems: what is wrong with the YAML, independent of the keys' meaning.
    """

    values: dict[str, Any]
    lines: dict[Place, int]
    joined: dict[Place, tuple[int, int]]
    problems: tuple[Problem, ...]

    def find_nearest(self, place: Place) -> Place:
        """The place itself, or the nearest one above it that is in the file."""
        while place and place not in self.lines:
            place = place[:-1]
        return place

    def find_line(self, place: Place) -> int:
        """The line of a key, or of the nearest one above it."""
        return self.lines.get(self.find_nearest(place), 1)


def parse_document(text: str) -> Document:
    """The one mapping in a YAML text.

    Raises:
        NotYamlError: if there is no such thing.
    """
    reader = _Reader()
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
        if root is None:
            raise NotYamlError(1, "empty file — start from a copy of the shipped config.yaml")
        if not isinstance(root, yaml.MappingNode):
            raise NotYamlError(
                root.start_mark.line + 1,
                "not a mapping of keys to values — start from a copy of the shipped config.yaml",
            )
        values = reader.read_mapping(root, ())
    except yaml.YAMLError as error:
        raise _describe_yaml_error(error, text) from None
    except RecursionError:
        raise NotYamlError(1, "invalid YAML: nested too deeply — simplify it") from None
    return Document(values, reader.lines, reader.joined, tuple(dict.fromkeys(reader.problems)))


def format_document(values: Mapping[str, Any]) -> str:
    """The values as YAML, which `parse_document` reads back."""
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)


def _describe_yaml_error(error: yaml.YAMLError, text: str) -> NotYamlError:
    """The parser's complaint, without the names in it that may be part of a secret."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return NotYamlError(line, "invalid YAML: control character — remove it")
    mark = getattr(error, "problem_mark", None)
    what = _SECRET.sub(r"\1", getattr(error, "problem", None) or "unreadable")
    line = mark.line + 1 if mark else 1
    return NotYamlError(line, f"invalid YAML: {what} — check indentation, quotes and colons")


class _Reader:
    """Walks the nodes once; aliases are followed, up to a limit that no honest file reaches."""

    def __init__(self) -> None:
        self.lines: dict[Place, int] = {}
        self.joined: dict[Place, tuple[int, int]] = {}
        self.problems: list[Problem] = []
        self._values = 0

    def read_value(self, node: yaml.Node, place: Place) -> Any:
        """The content of a node, with everything in it."""
        self._values += 1
        if self._values > _MOST_VALUES:
            raise NotYamlError(
                node.start_mark.line + 1,
                f"more than {_MOST_VALUES:,} values — check the path",
            )
        if node.tag not in _OWN_TAGS:
            self.problems.append((place, "YAML tags (!) are not supported — quote the value"))
        if isinstance(node, yaml.ScalarNode):
            first, last = node.start_mark.line + 1, node.end_mark.line + 1
            if node.style != "|" and last > first:
                self.joined[place] = (first, last)
            return _read_scalar(node)
        if isinstance(node, yaml.MappingNode):
            return self.read_mapping(node, place)
        return [self._read_entry(item, (*place, at)) for at, item in enumerate(node.value)]

    def _read_entry(self, node: yaml.Node, place: Place) -> Any:
        self.lines[place] = node.start_mark.line + 1
        return self.read_value(node, place)

    def read_mapping(self, node: yaml.Node, place: Place) -> dict[str, Any]:
        """The values of a mapping's keys; its own keys override merged ones."""
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            here = (*place, name)
            if name == "<<" and key.style is None:
                merged = {**self._read_merged(value, place), **merged}
                continue
            self.lines[here] = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.problems.append((here, "a key must be a string — put it in quotes"))
                continue
            if name in own:
                self.problems.append((here, "duplicate key — remove one of the two"))
            own[name] = self.read_value(value, here)
        return {**merged, **own}

    def _read_merged(self, node: yaml.Node, place: Place) -> dict[str, Any]:
        """What `<<: *other` or `<<: [*one, *other]` brings; the first to name a key gives it."""
        merged: dict[str, Any] = {}
        for part in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            value = self.read_value(part, place)
            if not isinstance(value, dict):
                self.lines[(*place, "<<")] = part.start_mark.line + 1
                self.problems.append(((*place, "<<"), "not a mapping — merge mappings only"))
                continue
            merged = {**value, **merged}
        return merged


def _read_scalar(node: yaml.ScalarNode) -> str | int | float | bool | None:
    text = node.value
    if node.style is not None:  # in quotes
        return str(text)
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else str(text)
