"""The kinds of hosts in a simulated fleet: what each does, how much, and when."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """What the hosts of a kind have in common.

    Attributes:
        name: the value of their label `job`.
        share: of the fleet.
        peak_hour: UTC hour of the day with most load.
        swing: how far load moves from its mean in a day, relative to it.
        weekend: load at weekends, relative to weekdays.
        requests: per second, at peak.
        cpu: share of processor time that peak load takes.
        job_cpu: share of processor time that the daily job takes.
        job_hour: UTC hour at which the daily job starts, on each host within the same 40 minutes.
        job_minutes: its duration.
        read: bytes per second at peak load.
        written: bytes per second at peak load.
        job_read: bytes per second that the daily job reads.
    """

    name: str
    share: float
    peak_hour: float
    swing: float
    weekend: float
    requests: float
    cpu: float
    job_cpu: float
    job_hour: float
    job_minutes: float
    read: float
    written: float
    job_read: float


KINDS = (
    Kind("web", 0.45, 15.5, 0.40, 0.78, 140.0, 0.50, 0.06, 4.0, 15.0, 1.2e6, 3.0e6, 1.5e6),
    Kind("database", 0.20, 15.0, 0.35, 0.82, 320.0, 0.38, 0.16, 2.0, 50.0, 5.0e6, 4.0e6, 6.0e6),
    Kind("cache", 0.20, 16.0, 0.38, 0.80, 900.0, 0.30, 0.03, 5.0, 10.0, 0.4e6, 0.6e6, 0.6e6),
    Kind("batch", 0.15, 22.0, 0.25, 1.00, 25.0, 0.34, 0.28, 0.5, 80.0, 2.5e6, 3.5e6, 4.0e6),
)
"""Every kind, in the order of the rows of a fleet."""

DATACENTERS = ("eu-1", "eu-2", "us-1")
"""The values of the label `datacenter`."""
