"""What a detector receives, as its pollers: of many groups, and of one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from promad.data.frame import single_group
from promad.data.groups import THE_ONLY_GROUP
from promad.errors import PrometheusError
from promad.prometheus.client import PrometheusClient
from promad.prometheus.groups.freshness import list_labels
from promad.prometheus.groups.options import PollOptions
from promad.prometheus.groups.polling import GroupPoll, GroupPoller
from promad.prometheus.groups.sources import QueriedColumns
from promad.prometheus.polling import Poll
from promad.prometheus.received.columns import OnCatchUp, ReceivedColumns
from promad.prometheus.received.naming import build_catch_up_queries
from promad.prometheus.received.store import SampleStore, StoreOptions


def make_store(options: PollOptions) -> SampleStore:
    """An empty store for what is polled otherwise."""
    features = tuple(options.queries)
    most = 2 * options.max_groups * len(features) + 1000
    return SampleStore(
        StoreOptions(features, options.grouping, options.step, options.stale_after, most)
    )


def make_received_poller(
    client: PrometheusClient,
    detector: str,
    options: PollOptions,
    store: SampleStore,
    on_catch_up: OnCatchUp,
) -> GroupPoller:
    """A poller of groups that reads the store, and asks `client` for what was missed."""
    rules = options.grouping.rules
    labels = list_labels(
        options.grouping.by, (name for rule in rules for name in rule.source_labels)
    )
    queries = build_catch_up_queries(detector, options.queries, labels, options.stale_after)
    asked = replace(options, queries=queries)
    return GroupPoller(
        client,
        options,
        lambda rows: ReceivedColumns(
            store, options, rows, QueriedColumns(client, asked, rows), on_catch_up
        ),
    )


class ReceivedPoller:
    """The newest samples of the only group, in place of `promad.prometheus.polling.Poller`."""

    def __init__(self, poller: GroupPoller, samples: int) -> None:
        self._poller = poller
        self._samples = samples
        self._was_there = False

    def poll(self, at: float) -> Poll:
        """The newest samples up to the last multiple of the step that is not after `at`."""
        poll = self._poller.poll(at)
        frame = poll.frame
        missing = np.full((self._samples, len(frame.features)), np.nan)
        there = THE_ONLY_GROUP in frame.groups
        values = frame.values[0].copy() if there else missing
        values.flags.writeable = False
        since = self._find_corrected(poll) if there else np.nan
        self._was_there = there
        return Poll(
            single_group(frame.start, frame.step, frame.features, values),
            {**poll.failures, **_list_ambiguous(poll)},
            poll.newest,
            None if np.isnan(since) else since,
            poll.clock_offset,
        )

    def _find_corrected(self, poll: GroupPoll) -> float:
        """Unix time of the first sample that the poll before did not have so; NaN if it had all.

        A group is admitted with its second sample, and its first one is news then.
        """
        known = ~np.isnan(poll.frame.values[0]).all(axis=1)
        if self._was_there or not known.any():
            return float(poll.corrected_from[0])
        return float(poll.frame.times[known.argmax()])


def _list_ambiguous(poll: GroupPoll) -> dict[str, PrometheusError]:
    return {
        alias: PrometheusError(
            f"query {alias}: several series were received, expected one — "
            "aggregate with sum() or avg(), and send from one Prometheus server only",
            "several_series",
        )
        for alias in poll.ambiguous.values()
    }
