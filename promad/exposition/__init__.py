"""The metrics that promad exposes.

    names          every metric: name, type, labels, HELP text, and when it is absent
    groups         Snapshot ─► metrics about groups: scores, states, features
    fleet          FleetSnapshot: a detector of many groups, rendered once per tick
    render         columns over groups ─► lines (text, segments, fleet_labels, feature_choice)
    incident_lines open incidents ─► lines
    merging        the lines of all detectors, each family once
    daemon         metrics about the daemon itself: polls, ticks, queries, models, reloads
    web            metrics about the HTTP server
    peers          metrics about requests to other shards
    receiver       metrics about remote write that is received

History as a daemon would have exposed it, for Prometheus to store:

    scrape_target  one sample of a detector ─► metric families, with the labels of a scrape
    openmetrics    ─► a file for promtool to import
    pushing        ─► series for remote write

A value that is not known is withdrawn: never 0, never NaN.
"""

from promad.exposition.daemon import DaemonMetrics, DetectorMetrics, create_registry
from promad.exposition.groups import AnySnapshot, Snapshot, SnapshotCollector
from promad.exposition.merging import collect_fleets, merge_fleets
from promad.exposition.peers import PeerMetrics
from promad.exposition.receiver import ReceiverMetrics
from promad.exposition.web import WebMetrics

__all__ = [
    "AnySnapshot",
    "DaemonMetrics",
    "DetectorMetrics",
    "PeerMetrics",
    "ReceiverMetrics",
    "Snapshot",
    "SnapshotCollector",
    "WebMetrics",
    "collect_fleets",
    "create_registry",
    "merge_fleets",
]
