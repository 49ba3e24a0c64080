"""From config.yaml to `Config`, or to every mistake in it, each with its line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from promad.config.contradictions import find_contradictions
from promad.config.document import Document, NotYamlError, Place, Problem, parse_document
from promad.config.original import fill_preset, is_original
from promad.config.overrides import apply_overrides
from promad.config.settings import Config, key_paths
from promad.errors import ConfigError

_LARGEST_FILE_BYTES = 1_000_000
_LONGEST_VALUE = 80


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in `path`; relative paths in it are relative to the directory of `path`
    as it is named: if it is a link, not where that leads.

    Args:
        overrides: `section.key=value` each, in place of the file's values.

    Raises:
        ConfigError: with one line for every mistake in the file.
    """
    return read_config(read_text(path), str(path), path.absolute().parent, overrides)


def read_text(path: Path, option: str = "promad -c FILE") -> str:
    """The text of a file of a configuration's size, whose path is set by `option`.

    Raises:
        ConfigError: if it cannot be read, or is no such text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE_BYTES + 1)
        if len(content) > _LARGEST_FILE_BYTES:
            raise ConfigError(
                [f"{path}: larger than 1 MB — not a promad configuration, check the path"]
            )
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(
            [f"{path}: cannot read the file ({reason}) — set its path with {option}"]
        ) from None
    return text


def read_config(
    text: str,
    name: str = "config.yaml",
    directory: Path | None = None,
    overrides: Sequence[str] = (),
) -> Config:
    """The configuration written in `text`.

    Args:
        name: printed before each problem's line number.
        directory: what relative paths are relative to; None leaves them as they are.
        overrides: `section.key=value` each, in place of the text's values.

    Raises:
        ConfigError: with one line for every mistake.
    """
    try:
        document = parse_document(text)
    except NotYamlError as error:
        raise ConfigError([_flatten(f"{name}:{error.line}: {error}")]) from None
    implied = is_original(document.values)
    document = apply_overrides(document, overrides)
    document = replace(document, values=fill_preset(document.values, implied))
    return validate_document(document, name, directory)


def validate_document(document: Document, name: str, directory: Path | None) -> Config:
    """The configuration in a document; see `read_config`.

    Raises:
        ConfigError: with one line for every mistake.
    """
    config, problems = _validate(document, {"directory": directory})
    problems = [*document.problems, *problems]
    if config is None or problems:
        located = sorted(
            (document.find_line(place), _join_place(place), what) for place, what in problems
        )
        lines = (
            f"{f'{name}:{line}' if line else '--set'}: {key}: {what}" for line, key, what in located
        )
        raise ConfigError([_flatten(line) for line in lines])
    return config


def _join_place(place: Place) -> str:
    return ".".join(map(str, place))


def _flatten(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _validate(document: Document, context: dict[str, Any]) -> tuple[Config | None, list[Problem]]:
    """The configuration if each key is sound, and what is wrong with keys and between them.

    Contradictions are searched with wrong keys at their defaults, so that one run finds all.
    """
    try:
        config = Config.model_validate(document.values, context=context)
    except ValidationError as error:
        problems = [describe_problem(found, document) for found in error.errors(include_url=False)]
    else:
        return config, [(keys[0], what) for keys, what in find_contradictions(config)]
    wrong = [place for place, _ in problems]
    rest = Config.model_validate(_drop_wrong(document.values, wrong), context=context)
    between = [
        (keys[0], what)
        for keys, what in find_contradictions(rest)
        if not any(_overlap(key, place) for key in keys for place in wrong)
    ]
    return None, [*problems, *between]


def _drop_wrong(values: Mapping[str, Any], wrong: Iterable[Place]) -> dict[str, Any]:
    """`values` without the keys of sections that are wrong, or have something wrong within."""
    sections = {section for section, keys in values.items() if isinstance(keys, dict)}
    gone = {place[:2] if place[0] in sections else place[:1] for place in wrong}
    kept = {
        section: {key: value for key, value in keys.items() if (section, key) not in gone}
        if isinstance(keys, dict)
        else keys
        for section, keys in values.items()
        if (section,) not in gone
    }
    return {**kept, "queries": {"any": "up"}}  # they take no part in contradictions


def _overlap(key: Place, place: Place) -> bool:
    """Whether one of the two lies within the other."""
    shared = min(len(key), len(place))
    return key[:shared] == place[:shared]


_WORDS = {
    "missing": "required key is missing — add it",
    "int_type": "must be an integer — write it without quotes or decimals",
    "float_type": "must be a number — write it like 0.5, without quotes",
    "finite_number": "must be a finite number — write it like 0.5",
    "bool_parsing": "must be true or false — write it without quotes",
    "bool_type": "must be true or false — write it without quotes",
    "string_type": "must be a string — put it in quotes",
    "string_too_short": "must not be empty — set a value, or remove the key",
    "too_short": "must not be empty — add at least one entry",
    "model_type": "must be a section — indent its keys below it",
    "dict_type": "must be a section — indent `name: value` lines below it",
    "tuple_type": "must be a list — put it in [ ]",
    "path_type": "must be a path — put it in quotes",
}
_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
_ELSEWHERE = "see the shipped config.yaml"


def describe_problem(
    details: Mapping[str, Any],
    document: Document,
    section: type[BaseModel] = Config,
    elsewhere: str = _ELSEWHERE,
) -> Problem:
    """One of pydantic's errors as a promad message, at a place that is in the file.

    Args:
        section: what the whole file is read as.
        elsewhere: what to do where the error does not say it.
    """
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "missing":
        return details["loc"], _WORDS[kind]
    place = document.find_nearest(details["loc"])
    if kind == "extra_forbidden":
        return place, _suggest_key(place, section, elsewhere)
    if kind == "value_error":
        text = str(context["error"])
    elif value is None and kind != "dict_type":
        text = "has no value — set one, or remove the key"
    elif kind == "literal_error":
        expected = context["expected"].replace(" or ", ", ").replace("'", "")
        text = f"unknown value — use one of {expected}"
    elif bounds := [f"{word} {context[key]:g}" for key, word in _BOUNDS.items() if key in context]:
        text = f"out of range — must be {bounds[0]}"
    else:
        text = _WORDS.get(kind, details["msg"])
    what, _, remedy = text.partition(" — ")
    return place, f"{what}{_show_value(place, value)} — {remedy or elsewhere}"


_MAY_BE_SECRET = {
    *("basic_auth", "authorization", "oauth2", "sigv4"),
    *("http_headers", "proxy_url", "params"),
    *("basic_auth_users", "key"),
}


def _show_value(place: Place, value: Any) -> str:
    """The value as a parenthesis, unless it is a whole section or may hold a secret."""
    if isinstance(value, dict | list) or value in {None, ""}:
        return ""
    may_hold_credentials = place[:1] in {("prometheus_url",), ("web",)} and "@" in str(value)
    if _MAY_BE_SECRET.intersection(place) or may_hold_credentials:
        return " (hidden)"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f" ({text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + '…'})"


def _suggest_key(place: Place, section: type[BaseModel], elsewhere: str) -> str:
    """A message with the nearest key of the same section, or the section that has this key."""
    *above, name = map(str, place)
    known = [path for path in key_paths(section) if "*" not in path[-1:]]
    here = [path[-1] for path in known if _is_at(path[:-1], above)]
    if near := difflib.get_close_matches(name, here, n=1):
        return f"unknown key — did you mean {near[0]}?"
    if homes := [path for path in known if path[-1] == name and "*" not in path]:
        return f"unknown key — did you mean {_join_place(homes[0])}?"
    return f"unknown key — remove it, or {elsewhere}"


def _is_at(path: Iterable[str], above: Iterable[str]) -> bool:
    path, above = list(path), list(above)
    return len(path) == len(above) and all(
        step in {"*", real} for step, real in zip(path, above, strict=True)
    )
