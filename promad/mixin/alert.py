"""`Alert`: one alert, and what several of them have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from promad.config import format_duration
from promad.mixin.deployment import Deployment
from promad.mixin.rules import Rule

SEVERE_RATIO = 3
"""Above this score over threshold an anomaly is severe."""

SEVERE_SAMPLES = 4
"""For how many samples the score must be that high."""

KEEP_FIRING_SECONDS = 600.0
"""An anomaly that ends and begins again within this time is one notification."""

WARNING, CRITICAL = "warning", "critical"
DETECTOR_NAME = "{{ $labels.detector }}"


@dataclass(frozen=True)
class Alert:
    """One alert.

    Attributes:
        name: its name, which is also the heading of its section in docs/runbooks.md.
        why: the reason for its condition, as a comment.
        expr: PromQL that has a value while the condition holds.
        severity: `critical` should page someone, `warning` should not.
        summary: the problem in one short line.
        description: the details, and the effect.
        after: seconds for which the condition must hold before the alert fires.
        keep: seconds for which it keeps firing afterwards.
        link: the daemon's page about it, if its address is known.
    """

    name: str
    why: str
    expr: str
    severity: str
    summary: str
    description: str
    after: float = 0.0
    keep: float = 0.0
    link: str = ""

    def to_rule(self, runbook_url: str) -> Rule:
        """The alert as a rule that names its runbook.

        Only a URL becomes `runbook_url`: Alertmanager and Grafana make that annotation a link.
        """
        times = {"for": self.after, "keep_firing_for": self.keep}
        is_url = runbook_url.startswith(("http://", "https://"))
        content: dict[str, Any] = {
            "alert": self.name,
            "expr": self.expr,
            **{key: format_duration(seconds) for key, seconds in times.items() if seconds},
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url" if is_url else "runbook": f"{runbook_url}#{self.name.lower()}",
                **({"link": self.link} if self.link else {}),
            },
        }
        return Rule(self.why, content)


def choose_patience(deployment: Deployment) -> float:
    """Seconds without new samples after which it is unlikely that they resume by themselves."""
    return max(600.0, 5 * max(deployment.interval, deployment.step))


def choose_severe_seconds(deployment: Deployment) -> float:
    """Seconds for which a score must be high before the anomaly is severe."""
    return SEVERE_SAMPLES * max(deployment.step, deployment.interval)


def describe_budget(deployment: Deployment) -> str:
    """How many false alarms to expect, as a sentence."""
    budget = f"{deployment.false_alarms_per_week:g}"
    alarms = "one false alarm" if budget == "1" else f"{budget} false alarms"
    return f"The alert budget allows about {alarms} per week."
