"""The API's answers as TypeScript interfaces, from its OpenAPI description."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_SIMPLE = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean"}


def write_interfaces(schemas: Mapping[str, Any]) -> str:
    """One interface for each object among the schemas.

    >>> print(write_interfaces({"Point": {"type": "object", "properties": {
    ...     "x": {"type": "number"}, "name": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}}))
    interface Point {
      x: number;
      name: string | null;
    }
    """
    return "\n".join(
        _write_interface(name, schema) if "properties" in schema else _write_alias(name, schema)
        for name, schema in schemas.items()
    )


def _write_interface(name: str, schema: Mapping[str, Any]) -> str:
    fields = [f"  {field}: {_write_type(of)};" for field, of in schema["properties"].items()]
    return "\n".join([f"interface {name} {{", *fields, "}"])


def _write_alias(name: str, schema: Mapping[str, Any]) -> str:
    return f"type {name} = {_write_type(schema)};"


def _write_type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "anyOf" in schema:
        return " | ".join(_write_type(option) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " | ".join(json.dumps(value) for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"({_write_type(schema['items'])})[]"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"Record<string, {_write_type(values) if isinstance(values, dict) else 'any'}>"
    return _SIMPLE.get(schema.get("type", ""), schema.get("type", "any"))
