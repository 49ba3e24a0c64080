"""Every metric that promad exposes: its name, its help and when it is there.

groups   what is known of each group, as of the newest tick
daemon   what the daemon says about its own work
"""

from promad.exposition.daemon import DAEMON_PREFIX, DaemonMetrics, DetectorMetrics
from promad.exposition.groups import Snapshot, SnapshotCollector

__all__ = [
    "DAEMON_PREFIX",
    "DaemonMetrics",
    "DetectorMetrics",
    "Snapshot",
    "SnapshotCollector",
]
