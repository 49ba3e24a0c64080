"""promtool for tests: what rules yield on made-up series."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.prometheus_server import require_binary

STEP = 30
"""Seconds from one scrape to the next, and from one evaluation to the next."""

Value = float | Callable[[float], float]
"""The value of a series at every scrape, or as a function of the time in seconds."""

Scrape = Mapping[str, Value]
"""The value of every series that is present, by its selector."""


@dataclass(frozen=True)
class Story:
    """A sequence of scrapes from time 0 on.

    A series that disappears is stale from its first missing scrape on, as in Prometheus.
    """

    scrapes: tuple[Scrape, ...] = ()

    def then(self, scrape: Scrape, minutes: float) -> Self:
        """The story continued with this scrape for some minutes."""
        return type(self)((*self.scrapes, *[scrape] * round(minutes * 60 / STEP)))

    def series(self) -> list[dict[str, str]]:
        """The story as promtool's input series."""
        names = dict.fromkeys(name for scrape in self.scrapes for name in scrape)
        return [{"series": name, "values": " ".join(self._values(name))} for name in names]

    def _values(self, name: str) -> list[str]:
        values = []
        present = False
        for number, scrape in enumerate(self.scrapes):
            if name in scrape:
                value = scrape[name]
                values.append(repr(float(value(number * STEP) if callable(value) else value)))
            else:
                values.append("stale" if present else "_")
            present = name in scrape
        return values


@dataclass(frozen=True)
class RuleTest:
    """A test of rules by `promtool test rules`, in the directory of a test."""

    directory: Path
    rules: Path

    def fire(self, story: Story, firing: Mapping[float, Sequence[str]]) -> None:
        """Assert which alerts fire after so many minutes, each once for each name, and no other."""
        self._query(
            story,
            'count by (alertname) (ALERTS{alertstate="firing"})',
            {
                at: {f'{{alertname="{name}"}}': float(names.count(name)) for name in names}
                for at, names in firing.items()
            },
        )

    def say(self, story: Story, at: float, alert: str, labels: Any, annotations: Any) -> None:
        """Assert that this one alert of its name fires, with these labels and annotations."""
        expected = {"exp_labels": labels, "exp_annotations": annotations}
        case = {"eval_time": _minutes(at), "alertname": alert, "exp_alerts": [expected]}
        self._run(story, {"alert_rule_test": [case]})

    def yield_samples(
        self, story: Story, at: float, expr: str, samples: Mapping[str, float]
    ) -> None:
        """Assert that an expression yields these samples, each by its name and labels."""
        self._query(story, expr, {at: samples})

    def _query(
        self, story: Story, expr: str, expected: Mapping[float, Mapping[str, float]]
    ) -> None:
        cases = [
            {
                "expr": expr,
                "eval_time": _minutes(at),
                "exp_samples": [{"labels": name, "value": value} for name, value in each.items()],
            }
            for at, each in expected.items()
        ]
        self._run(story, {"promql_expr_test": cases})

    def _run(self, story: Story, cases: dict[str, Any]) -> None:
        test = {"interval": f"{STEP}s", "input_series": story.series(), **cases}
        content = {"rule_files": [str(self.rules)], "evaluation_interval": f"{STEP}s"}
        path = self.directory / "test.yaml"
        path.write_text(yaml.safe_dump({**content, "tests": [test]}, allow_unicode=True))
        promtool("test", "rules", path)


def _minutes(at: float) -> str:
    return f"{round(at * 60)}s"


def promtool(*arguments: str | Path) -> str:
    """The output of promtool; the test fails if promtool does."""
    command = [require_binary("promtool"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
