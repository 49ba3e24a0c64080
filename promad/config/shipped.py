"""The shipped config.yaml: every key with its default and a comment."""

from __future__ import annotations

from pathlib import Path

_PACKAGED = Path(__file__).with_name("config.yaml")
_IN_CLONE = Path(__file__).parents[2] / "config.yaml"


def read_shipped_config() -> str:
    """The text of the shipped config.yaml: that of the wheel, or of the clone it is run from."""
    path = _PACKAGED if _PACKAGED.exists() else _IN_CLONE
    return path.read_text(encoding="utf-8")
