"""The presets as data: what is in their files, and PromQL for given labels and windows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib.resources import files
from string import Template
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from promad.config import format_duration
from promad.config.document import parse_document
from promad.config.values import Text, ValidRange

PRESETS = (
    *("node", "windows", "kubernetes", "postgres", "nvidia-dcgm"),
    *("jvm", "redis", "nginx", "blackbox"),
)
"""The names of all presets, in the order in which `auto` looks for them."""


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PresetQuery(_Data):
    """One feature of a preset.

    Attributes:
        expr: PromQL with `$by` for the labels of a group, and `$window` for the range of rates.
        unit: of its values.
        meaning: a sentence for the comment in the configuration.
        direction, valid_range: as in a configuration.
        metrics: the names of metrics that it needs; `a|b` is one of the two.
    """

    expr: Text
    unit: Text
    meaning: Text
    direction: Literal["both", "above", "below"]
    valid_range: ValidRange
    metrics: Annotated[tuple[Text, ...], Field(min_length=1)]

    def fill(self, by: Sequence[str], window: float) -> str:
        """The PromQL for groups by these labels, with rates over `window` seconds."""
        return Template(self.expr).substitute(by=", ".join(by), window=format_duration(window))

    def list_missing(self, names: Collection[str]) -> list[str]:
        """The metrics that it needs and that are not among the names."""
        return [each for each in self.metrics if not set(each.split("|")).intersection(names)]


class Preset(_Data):
    """The queries for what an exporter reports.

    The metrics of the first query identify the exporter: it is there if they are.

    Attributes:
        title: what is monitored, in the plural.
        exporter: where the metrics come from.
        group_by: the labels that make one group.
        queries: by alias.
    """

    title: Text
    exporter: Text
    group_by: tuple[Text, ...]
    queries: Annotated[Mapping[str, PresetQuery], Field(min_length=1)]

    @property
    def first(self) -> PresetQuery:
        """The query that identifies the exporter."""
        return next(iter(self.queries.values()))

    def is_there(self, names: Collection[str]) -> bool:
        """Whether a server with metrics of these names has what identifies the exporter."""
        return not self.first.list_missing(names)

    def find_metric(self, names: Collection[str]) -> str:
        """The metric that identifies the exporter, by the name that is among the names."""
        known = self.first.metrics[0].split("|")
        return next((name for name in known if name in names), known[0])


@cache
def load_preset(name: str) -> Preset:
    """A preset of `PRESETS`."""
    text = (files(__package__) / f"{name}.yaml").read_text(encoding="utf-8")
    return Preset.model_validate(parse_document(text).values)


def list_metrics(preset: Preset) -> list[str]:
    """Every metric name that any query of a preset can use, in alphabetical order."""
    return sorted(
        {
            name
            for query in preset.queries.values()
            for needed in query.metrics
            for name in needed.split("|")
        }
    )
