"""What a detector of many groups is made of."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from promad.bundle import Opened
from promad.clock import Clock
from promad.data.shards import Shard, list_state_directories
from promad.detection.fleet_history import FleetHistory, Histories
from promad.detection.fleet_loop import FleetLoop, FleetOutputs
from promad.detection.fleet_persistence import FleetPersistence
from promad.detection.fleet_replay import make_rules
from promad.detection.group_replay import make_fill_details, make_poll_options
from promad.detection.live import begin_live
from promad.detection.loop import LoopOptions
from promad.detection.marker_queries import make_marker_queries
from promad.detection.muting import make_mute_queries
from promad.detection.state_file import FILE_NAME, MOVED_NAME, StateFile
from promad.events.event_log import EventLog
from promad.events.incident_book import IncidentBook
from promad.exposition import DetectorMetrics
from promad.prometheus.client import PrometheusClient
from promad.prometheus.groups.polling import GroupPoller

if TYPE_CHECKING:  # loaded where samples are received
    from promad.detection.receiving import Stream

FLEET_CATCH_UP_SAMPLES = 40
"""How many samples beyond a window are kept of each group: of many, it must stay small."""


def count_samples(opened: Opened) -> int:
    """How many of the newest samples of each group are kept."""
    return opened.detector.samples_needed + FLEET_CATCH_UP_SAMPLES


def build_fleet_loop(
    opened: Opened,
    shard: Shard | None,
    client: PrometheusClient,
    events: EventLog,
    metrics: DetectorMetrics,
    clock: Clock,
    options: LoopOptions,
    stream: Stream | None = None,
) -> tuple[FleetLoop, Histories]:
    """A detector of many groups before its first tick, and the histories of its groups.

    `stream` has its samples, if they are received.
    """
    config, detector = opened.config, opened.detector
    settings, step = config.real_time_anomaly_detection, detector.preparation.step
    samples = count_samples(opened)
    poller = (
        GroupPoller(client, make_poll_options(config, samples, shard=shard))
        if stream is None
        else stream.make_poller(client)
    )
    own = config.artifacts_dir if shard is None else shard.locate(config.artifacts_dir)
    state_file = StateFile(own, opened.bundle.id)
    others = [
        StateFile(directory, opened.bundle.id, name)
        for directory in list_state_directories(config.artifacts_dir)
        if directory != own
        for name in (FILE_NAME, MOVED_NAME)
    ]
    poller.prefer(state_file.read_groups())
    history = FleetHistory(
        detector.scored_features, settings.history_samples, make_fill_details(opened, clock)
    )
    persistence = FleetPersistence(
        events,
        state_file,
        opened.bundle.id,
        settings.events_retention,
        FLEET_CATCH_UP_SAMPLES * step,
        metrics,
        others,
        shard,
    )
    outputs = FleetOutputs(
        metrics,
        history,
        persistence,
        IncidentBook(make_rules(opened)),
        settings.max_feature_series,
        make_mute_queries(config, client, metrics),
        make_marker_queries(config, client, events, metrics),
    )
    begin = partial(begin_live, opened, shards=1 if shard is None else shard.share.count)
    loop = FleetLoop(options, begin, poller, clock, outputs)
    return loop, Histories(history)
