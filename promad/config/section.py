"""What every section of the configuration has in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """A part of the configuration: immutable, and a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _from_nothing(cls, value: Any) -> Any:
        """A section whose keys are all commented out reads as null and means the defaults."""
        can_do_without = not any(field.is_required() for field in cls.model_fields.values())
        return {} if value is None and can_do_without else value
