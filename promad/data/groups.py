"""Groups: the label values that make one monitored thing."""

from __future__ import annotations

from promad.config.labels import (
    Labels,
    escape_label_value,
    list_matchers,
    name_group,
    sort_labels,
)

__all__ = [
    "THE_ONLY_GROUP",
    "Labels",
    "escape_label_value",
    "list_matchers",
    "name_group",
    "sort_labels",
]

THE_ONLY_GROUP: Labels = ()
"""The group of a detector that watches one thing and so needs no labels to tell groups apart."""
