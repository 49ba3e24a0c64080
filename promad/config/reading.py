"""From config.yaml to `Config`, or to every mistake in it, each with its line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from promad.config.settings import Config
from promad.errors import ConfigError

_LARGEST_FILE_BYTES = 1_000_000

Path_ = tuple[str | int, ...]
Problem = tuple[Path_, str]
"""A key's path and what is wrong there, as `what is wrong (value) — what to do`."""


def load_config(path: Path) -> Config:
    """The configuration in `path`, with `artifacts_dir` taken relative to the file.

    Raises:
        ConfigError: with one line for every mistake in the file.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            raise ConfigError([f"{path}: larger than 1 MB — this is no promad configuration"])
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            [f"{path}: cannot be read ({reason}) — name the file with promad -c FILE"]
        ) from None
    config = read_config(text, str(path))
    artifacts = path.resolve().parent / config.artifacts_dir.expanduser()
    return config.model_copy(update={"artifacts_dir": artifacts})


def read_config(text: str, name: str = "config.yaml") -> Config:
    """The configuration written in `text`; `name` stands before each problem's line number.

    Raises:
        ConfigError: with one line for every mistake.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError([_yaml_problem(error, name)]) from None
    if not isinstance(root, yaml.MappingNode) or not isinstance(raw, dict):
        raise ConfigError([f"{name}:1: not a mapping of keys to values — see the shipped file"])
    config, problems = _validate(raw)
    problems = [*_repeated_keys(root), *problems]
    if config is None or problems:
        located = sorted((_line_of(root, path), path, what) for path, what in problems)
        raise ConfigError(
            [f"{name}:{line}: {'.'.join(map(str, path))}: {what}" for line, path, what in located]
        )
    return config


def _yaml_problem(error: yaml.YAMLError, name: str) -> str:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else 1
    what = getattr(error, "problem", None) or "unreadable"
    return f"{name}:{line}: not YAML: {what} — check indentation, quotes and colons here"


def _validate(raw: dict[str, Any]) -> tuple[Config | None, list[Problem]]:
    """The configuration if it is sound, and what is wrong with each key and between keys.

    Keys that are wrong are left at their defaults while the rest is checked, so that one run
    finds everything.
    """
    try:
        config = Config.model_validate(raw)
        return config, list(_contradictions(config))
    except ValidationError as error:
        problems = _distinct(_problem(details, raw) for details in error.errors())
    for path, _ in problems:
        _remove(raw, path)
    try:
        rest = Config.model_validate(raw)
    except ValidationError:
        return None, problems
    wrong = {path for path, _ in problems}
    return None, problems + [found for found in _contradictions(rest) if found[0] not in wrong]


def _contradictions(config: Config) -> Iterator[Problem]:
    """What is wrong between keys that are each sound by themselves."""
    data, live = config.data_settings, config.real_time_anomaly_detection
    for alias in config.queries:
        if alias == "timestamp" or not alias.strip():
            yield ("queries", alias), "this alias is taken by the time column — choose another"
    chunk = data.cache_chunk_hours * 3600
    if abs(chunk / data.step - round(chunk / data.step)) > 1e-9:
        yield (
            ("data_settings", "cache_chunk_hours"),
            f"is no multiple of step ({data.cache_chunk_hours:g} h, {data.step:g} s) — "
            "choose hours that a whole number of steps fills",
        )
    if (data.start_time_iso is None) != (data.end_time_iso is None):
        here = "start_time_iso" if data.end_time_iso is None else "end_time_iso"
        yield ("data_settings", here), "stands alone — give both start_time_iso and end_time_iso"
    elif (data.end_time_iso or 0) < (data.start_time_iso or 0):
        yield ("data_settings", "end_time_iso"), "is before start_time_iso — swap the two"
    if live.data_step_duration not in {None, data.step}:
        yield (
            ("real_time_anomaly_detection", "data_step_duration"),
            f"differs from data_settings.step ({live.data_step_duration:g} s, {data.step:g} s) — "
            "a model sees only the step it was trained on; make them equal or leave this out",
        )
    if config.training_settings.sequence_length <= config.preprocessing_settings.max_fill_steps:
        yield (
            ("preprocessing_settings", "max_fill_steps"),
            f"reaches over a whole window ({config.preprocessing_settings.max_fill_steps} steps, "
            f"sequence_length {config.training_settings.sequence_length}) — make it smaller",
        )
    yield from _secret_contradictions(config)


def _secret_contradictions(config: Config) -> Iterator[Problem]:
    server = config.prometheus
    if server.basic_auth and server.authorization:
        yield ("prometheus", "authorization"), "basic_auth is given too — keep one of the two"
    if server.basic_auth and server.basic_auth.password and server.basic_auth.password_file:
        yield ("prometheus", "basic_auth", "password"), "password_file is given too — keep one"
    bearer = server.authorization
    if bearer and (bearer.credentials is None) == (bearer.credentials_file is None):
        yield (
            ("prometheus", "authorization"),
            "needs either credentials or credentials_file — give exactly one",
        )


_WORDS = {
    "missing": "is required but not there — add it",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text — put it in quotes",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty — add at least one entry",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "mapping_type": "must be a mapping of keys to values",
    "tuple_type": "must be a list",
    "path_type": "must be a path",
}


def _problem(details: Mapping[str, Any], raw: Any) -> Problem:
    """One of pydantic's findings in promad's words."""
    path, kind, context = tuple(details["loc"]), details["type"], details.get("ctx", {})
    path = _real_path(path, raw)
    value = _shown(path, details["input"])
    if kind == "extra_forbidden":
        return path, _unknown_key(path)
    if path == ("real_time_anomaly_detection", "anomaly_threshold_mse"):
        return path, f"must be auto or a number above zero{value} — auto chooses one by the budget"
    if kind == "value_error":
        what, _, remedy = str(context["error"]).partition(" — ")
        return path, f"{what}{value} — {remedy}"
    if kind == "literal_error":
        return path, f"unknown{value} — use one of {context['expected'].replace(' or ', ', ')}"
    if kind in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
        sign = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
        limit = next(f"{sign[key]} {context[key]:g}" for key in sign if key in context)
        return path, f"out of range{value} — must be {limit}"
    what, _, remedy = _WORDS.get(kind, details["msg"]).partition(" — ")
    return path, f"{what}{'' if kind == 'missing' else value} — {remedy or 'see config.yaml'}"


def _real_path(path: Path_, raw: Any) -> Path_:
    """`path` without what pydantic adds for its own book-keeping (the branches of a union)."""
    real: list[str | int] = []
    for step in path:
        inside = (isinstance(raw, dict) and step in raw) or isinstance(raw, list)
        if not inside and step != path[-1]:
            break
        if not inside and not isinstance(raw, dict):
            break
        real.append(step)
        raw = raw[step] if inside else None
    return tuple(real)


def _shown(path: Path_, value: Any) -> str:
    """The value as a parenthesis, unless it is a whole section or may be a secret."""
    if isinstance(value, dict | list) or value is None:
        return ""
    if any(str(step) in {"password", "credentials", "secrets"} for step in path):
        return " (hidden)"
    return f" ({value})"


def _unknown_key(path: Path_) -> str:
    known = _known_keys(path[:-1])
    near = difflib.get_close_matches(str(path[-1]), known, n=1)
    return f"unknown key — did you mean {near[0]}?" if near else "unknown key — remove it"


def _known_keys(path: Path_) -> Iterable[str]:
    """The keys of the section at `path`."""
    model: Any = Config
    for step in path:
        field = model.model_fields.get(str(step)) if _is_section(model) else None
        model = _section_in(field.annotation) if field else model
    return model.model_fields if _is_section(model) else ()


def _section_in(annotation: Any) -> Any:
    """The section class named anywhere within a type, as in `Mapping[str, Query]`."""
    if _is_section(annotation):
        return annotation
    inner = (_section_in(part) for part in getattr(annotation, "__args__", ()))
    return next((found for found in inner if found is not None), None)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _distinct(problems: Iterable[Problem]) -> list[Problem]:
    """The first problem of each path: the branches of a union repeat one mistake."""
    return list({path: (path, what) for path, what in reversed(list(problems))}.values())[::-1]


def _remove(raw: Any, path: Path_) -> None:
    for step in path[:-1]:
        try:
            raw = raw[step]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(raw, dict) and path:
        raw.pop(path[-1], None)


def _repeated_keys(node: yaml.Node, path: Path_ = ()) -> Iterator[Problem]:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _repeated_keys(item, (*path, index))
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        if key.value in seen:
            yield (*path, key.value), "is written twice — keep one, YAML silently drops the other"
        seen.add(key.value)
        yield from _repeated_keys(value, (*path, key.value))


def _line_of(node: yaml.Node, path: Path_) -> int:
    """The line of the key at `path`, or of the nearest section above it that is in the file."""
    line = node.start_mark.line + 1
    for step in path:
        found: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(step):
                    line, found = key.start_mark.line + 1, value
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            found = node.value[step] if step < len(node.value) else None
            line = found.start_mark.line + 1 if found else line
        if found is None:
            break
        node = found
    return line
