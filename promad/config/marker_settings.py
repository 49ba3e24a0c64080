"""`MarkerSettings`: one entry of `markers`, a query whose change marks a deployment."""

from __future__ import annotations

from promad.config.section import Section
from promad.config.values import Duration, PromQL, Text


class MarkerSettings(Section):
    """What marks a version: a new label set or a new value of a query's series.

    Events that begin at most `within` seconds after a marker name it.
    """

    name: Text
    query: PromQL
    within: Duration = 1800.0
