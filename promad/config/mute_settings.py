"""`Mute`: one entry of `mute`, the times and groups whose anomalies are expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, model_validator

from promad.config.cron import leaves_breaks
from promad.config.durations import format_duration, format_instant
from promad.config.section import Section
from promad.config.values import (
    Cron,
    Instant,
    LabelName,
    PositiveDuration,
    PromQL,
    Regex,
    Text,
    TimeZone,
)

_KINDS = {"a period": ("from", "to"), "a window": ("cron", "duration"), "a query": ("query",)}
"""The keys of each kind of entry, all of which it needs."""


class Mute(Section):
    """When anomalies of some groups are expected: a period, windows by a clock, or PromQL.

    An event that begins then is recorded as muted, and alerts about it do not fire meanwhile.
    """

    name: Text | None = None
    reason: Text | None = None
    start: Annotated[Instant | None, Field(alias="from")] = None
    end: Annotated[Instant | None, Field(alias="to")] = None
    cron: Cron | None = None
    duration: PositiveDuration | None = None
    time_zone: TimeZone = "UTC"
    query: PromQL | None = None
    groups: Mapping[LabelName, Regex] = {}

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Mute:
        given = {
            "from": self.start,
            "to": self.end,
            "cron": self.cron,
            "duration": self.duration,
            "query": self.query,
        }
        found = {key for key, value in given.items() if value is not None}
        kinds = [kind for kind, keys in _KINDS.items() if found.intersection(keys)]
        if not kinds:
            raise ValueError(
                "needs from and to, cron and duration, or query — set one of the three"
            )
        if len(kinds) > 1:
            raise ValueError(f"is {' and '.join(kinds)} at once — make an entry of each")
        for key in _KINDS[kinds[0]]:
            if key not in found:
                raise ValueError(f"{kinds[0]} without {key} — set {' and '.join(_KINDS[kinds[0]])}")
        if "time_zone" in self.model_fields_set and self.cron is None:
            raise ValueError("time_zone is for cron — remove it; a period has an offset of its own")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError("the period ends before it starts — swap from and to")
        if self.cron is not None and self.duration is not None:
            _check_breaks(self.cron, self.duration)
        return self

    @property
    def title(self) -> str:
        """Its name and reason as given, or else what it is.

        >>> Mute(cron="0 2 * * 0", duration="2h", reason="backup").title
        'backup'
        >>> Mute(query="deploying").title
        'deploying'
        """
        given = ": ".join(each for each in (self.name, self.reason) if each is not None)
        return given or self._describe()

    def _describe(self) -> str:
        if self.query is not None:
            return self.query
        if self.cron is not None and self.duration is not None:
            return f"{self.cron} for {format_duration(self.duration)} ({self.time_zone})"
        return f"{format_instant(self.start or 0.0)}/{format_instant(self.end or 0.0)}"


def _check_breaks(cron: str, duration: float) -> None:
    if not leaves_breaks(cron, duration):
        raise ValueError(
            f"windows of {format_duration(duration)} leave no time between them, so that it always "
            "mutes — shorten duration"
        )
