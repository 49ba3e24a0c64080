"""How well a fleet is watched: incidents on simulated fleets, and on Nezha's, beside the truth.

    python -m benchmarks.fleet [--seeds 11 12 13] [--hosts 200] [--days 14] [--nezha DIR]

Prints the tables of fleet.md. Each seed is a fleet of its own, with as many days to train as to
test; a seed that `--work` already has is not measured again. `--nezha DIR` measures on that folder
in place of simulated fleets.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fleet_nezha import measure_nezha
from benchmarks.fleet_replay import (
    Record,
    TrainedFleet,
    judge_scores,
    make_config,
    make_rules,
    replay,
    train_fleet,
)
from benchmarks.fleet_truth import compare_alerts, compare_incidents, count_weeks
from promad.data.artifacts import open_groups
from promad.data.frame import MetricFrame
from promad.data.groups import Labels, sort_labels
from promad.events.hysteresis import Hysteresis
from promad.simulation.fleet import FleetScenario, ScenarioSize, fleet_scenario
from promad.thresholds import pot
from promad.training.threshold_choice import make_threshold_settings

Values = NDArray[np.float64]

DAY = 86400.0
HOSTS_AT_ONCE = 20


@dataclass(frozen=True)
class Simulated:
    """A scenario that is read as frames.

    Attributes:
        step: seconds between samples.
    """

    scenario: FleetScenario
    step: float

    def label(self, row: int) -> Labels:
        """The labels of a host."""
        return sort_labels(self.scenario.fleet.labels[row])

    def iterate_training(self) -> Iterator[list[MetricFrame]]:
        """Each host's training part."""
        fleet, scenario = self.scenario.fleet, self.scenario
        times = np.arange(scenario.training_start, scenario.test_start, self.step)
        alive = fleet.find_alive(times)
        for first in range(0, len(alive), HOSTS_AT_ONCE):
            rows = alive[first : first + HOSTS_AT_ONCE]
            frame = self._frame(times, rows, fleet.values(times, hosts=rows))
            for number in range(len(rows)):
                own = frame.of_group(number)
                known = np.flatnonzero(~np.isnan(own.values[0]).all(axis=1))
                if known.size:
                    yield [own.slice(int(known[0]), int(known[-1]) + 1)]

    def iterate_test(self) -> Iterator[MetricFrame]:
        """All hosts of a day, day by day."""
        fleet, scenario = self.scenario.fleet, self.scenario
        for start in np.arange(scenario.test_start, scenario.end, DAY):
            times = np.arange(start, min(start + DAY, scenario.end), self.step)
            rows = fleet.find_alive(times)
            yield self._frame(times, rows, fleet.values(times, hosts=rows))

    def _frame(self, times: Values, rows: NDArray[np.int64], values: Values) -> MetricFrame:
        labels = tuple(self.label(row) for row in rows.tolist())
        return MetricFrame(float(times[0]), self.step, self.scenario.fleet.features, labels, values)


def measure(seed: int, size: ScenarioSize, step: float, folder: Path) -> dict[str, Any]:
    """All figures of one fleet."""
    source = Simulated(fleet_scenario(seed, size), step)
    scenario, faults = source.scenario, source.scenario.fleet.faults
    weeks = count_weeks(scenario.test_start, scenario.end)
    began = time.perf_counter()
    config = make_config(
        folder,
        scenario.fleet.features,
        ("datacenter", "instance", "job"),
        data_settings={"step": f"{step:g}s"},
    )
    trained = train_fleet(config, source.iterate_training())
    trained_at = time.perf_counter()
    kept: list[MetricFrame] = []
    record = replay(trained, _keep(source.iterate_test(), kept))
    print(
        f"seed {seed}: train {trained_at - began:.0f} s, "
        f"replay {time.perf_counter() - trained_at:.0f} s",
        flush=True,
    )
    told = compare_incidents(list(record.incidents.values()), faults, weeks)
    found: dict[str, Any] = {
        "promad": {**told.figures(), "raised": record.raised, "missed": told.missed},
    }
    np.savez_compressed(folder / "scores.npz", **_pack_scores(source, record))
    (folder / "incidents.json").write_text(json.dumps(_describe(record, faults), indent=1))
    found["per_host"] = _compare_per_host(trained, source, record, weeks)
    found["z"] = _compare_z(trained, source, kept, weeks)
    return found


def _keep(frames: Iterator[MetricFrame], kept: list[MetricFrame]) -> Iterator[MetricFrame]:
    """The frames, also put into a list, in single precision."""
    for frame in frames:
        yield frame
        kept.append(frame.with_values(frame.values.astype(np.float32)))


def _pack_scores(source: Simulated, record: Record) -> dict[str, Values]:
    frame = gather_scores(source, record)
    return {"scores": frame.values[:, :, 0].astype(np.float32)}


def _describe(record: Record, faults: Sequence[Any]) -> dict[str, Any]:
    return {
        "faults": [[f.name, f.start, f.end, f.size, list(f.hosts), list(f.onsets)] for f in faults],
        "incidents": [
            {
                "start": i.start,
                "end": i.end,
                "flagged": i.flagged_at,
                "members": [
                    [dict(m.labels)["instance"], m.onset, m.end, m.peak_ratio] for m in i.members
                ],
                "features": [list(f) for f in i.leading_features[:4]],
            }
            for i in record.incidents.values()
        ],
    }


def gather_scores(source: Simulated, record: Record) -> MetricFrame:
    """The scores of a replay as a frame of all groups, NaN where a group was not there."""
    scenario, step = source.scenario, source.step
    samples = round((scenario.end - scenario.test_start) / step)
    groups = tuple(record.scores)
    values = np.full((len(groups), samples, 1), np.nan)
    for row, labels in enumerate(groups):
        for start, scores in record.scores[labels]:
            first = round((start - scenario.test_start) / step)
            values[row, first : first + len(scores), 0] = scores
    return MetricFrame(scenario.test_start, step, ("score",), groups, values)


def _compare_per_host(
    trained: TrainedFleet, source: Simulated, record: Record, weeks: float
) -> dict[str, Any]:
    """The same scores with an alert for each host, by two budgets."""
    frame = gather_scores(source, record)
    shares = np.ones((*frame.values.shape[:2], 1))
    settings = make_threshold_settings(
        trained.config.real_time_anomaly_detection, trained.config.data_settings.step
    )
    found = {}
    hosts = len(trained.detector.table.groups) if trained.detector.table else 1
    for name, budget in (("1 a week each", 1.0), ("1 a week together", 1.0 / hosts)):
        limit = pot.fit(trained.scores, replace(settings, false_alarms_per_week=budget)).value
        limits = np.full(len(frame.groups), limit)
        judged = judge_scores(
            frame, limits, shares, make_rules(trained), _hysteresis(settings, frame)
        )
        alerts = compare_alerts(list(judged.events.values()), source.scenario.fleet.faults, weeks)
        found[name] = alerts.figures()
    return found


def _hysteresis(settings: Any, frame: MetricFrame) -> Hysteresis:
    return Hysteresis.begin(len(frame.groups), settings.enter_after, settings.leave_after)


def _compare_z(
    trained: TrainedFleet, source: Simulated, test: Sequence[MetricFrame], weeks: float
) -> dict[str, Any]:
    """Any host above its own limit of the largest distance of a feature from its mean."""
    settings = make_threshold_settings(
        trained.config.real_time_anomaly_detection, trained.config.data_settings.step
    )
    scenario, step = source.scenario, source.step
    fitted: dict[Labels, tuple[Values, Values, Values]] = {}
    data = trained.config.data_settings
    collected = open_groups(trained.config.artifacts_dir / data.output_filename, "collect")
    for number in range(len(collected.groups)):
        frame = max(collected.read(number), key=lambda each: each.samples)
        values = frame.values[0]
        if frame.samples * step < 0.5 * DAY:
            continue
        mean, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0) + 1e-12
        fitted[frame.groups[0]] = mean, spread, np.nanmax(np.abs(values - mean) / spread, axis=1)
    groups = tuple(fitted)
    place = {labels: row for row, labels in enumerate(groups)}
    budget = settings.false_alarms_per_week / len(groups)
    limits = np.array(
        [
            pot.fit(series, replace(settings, false_alarms_per_week=budget)).value
            for _, _, series in fitted.values()
        ]
    )
    samples = round((scenario.end - scenario.test_start) / step)
    scores = np.full((len(groups), samples, 1), np.nan)
    shares = np.full((len(groups), samples, len(scenario.fleet.features)), np.nan, np.float32)
    for frame in test:
        first = round((frame.start - scenario.test_start) / step)
        for row, labels in enumerate(frame.groups):
            if labels in place:
                mean, spread, _ = fitted[labels]
                z = np.abs(frame.values[row] - mean) / spread
                part = slice(first, first + frame.samples)
                scores[place[labels], part, 0] = z.max(axis=1)
                shares[place[labels], part] = z / z.sum(axis=1, keepdims=True)
    whole = MetricFrame(scenario.test_start, step, ("z",), groups, scores)
    judged = judge_scores(whole, limits, shares, make_rules(trained), _hysteresis(settings, whole))
    names = {f"feature {n}": name for n, name in enumerate(scenario.fleet.features)}
    numbers = {name: number for number, name in names.items()}
    faults = scenario.fleet.faults
    causes = {fault.name: [numbers[name] for name in fault.causes] for fault in faults}
    told = compare_incidents(list(judged.incidents.values()), faults, weeks, causes)
    return told.figures()


def main() -> None:
    arguments = parse_arguments()
    if arguments.nezha is not None:
        print_nezha(measure_nezha(arguments.nezha, arguments.work / "nezha"))
        return
    size = ScenarioSize(
        arguments.hosts, arguments.days, arguments.days, arguments.faults, arguments.faults
    )
    found = {}
    for seed in arguments.seeds:
        folder = arguments.work / f"seed-{seed}-{arguments.hosts}-{arguments.days:g}"
        path = folder / "figures.json"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(measure(seed, size, arguments.step, folder), indent=1))
        found[seed] = json.loads(path.read_text())
    print_simulated(found)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=(11, 12, 13))
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--days", type=float, default=14.0)
    parser.add_argument("--faults", type=int, default=20, help="on one host, and on several")
    parser.add_argument("--step", type=float, default=60.0, help="seconds")
    parser.add_argument("--nezha", type=Path, metavar="DIR")
    parser.add_argument("--work", type=Path, default=Path("artifacts/fleet"))
    return parser.parse_args()


# The tables


INCIDENT_ROWS = {
    "faults found": "found",
    "on one host": "found_single",
    "on several hosts": "found_multi",
    "false incidents per week": "false_per_week",
    "several hosts, one incident": "as_one",
    "overlapping faults kept apart": "apart",
    "a host with the fault among the first three": "host_in_three",
    "the first host among the first three": "first_in_three",
    "the same by chance": "first_by_chance",
    "a feature of the cause among the leading three": "feature_in_three",
    "median delay, minutes": "delay_median_seconds",
}


def print_simulated(found: Mapping[int, Mapping[str, Any]]) -> None:
    """Two tables: mean (lowest to highest seed)."""
    print("|  | promad | z-limit per host |\n|---|---|---|")
    for title, name in INCIDENT_ROWS.items():
        scale = 60.0 if name.endswith("_seconds") else 1.0
        cells = [
            format_spread([each[how][name] / scale for each in found.values()])
            for how in ("promad", "z")
        ]
        print(f"| {title} | {' | '.join(cells)} |")
    budgets = list(next(iter(found.values()))["per_host"])
    print(f"\n|  | {' | '.join(budgets)} |\n|---|{'---|' * len(budgets)}")
    for title, name in {
        "faults found": "found",
        "alerts per fault found": "alerts_per_fault",
        "false alerts per week": "false_per_week",
    }.items():
        cells = [
            format_spread([each["per_host"][budget][name] for each in found.values()])
            for budget in budgets
        ]
        print(f"| {title} | {' | '.join(cells)} |")


def format_spread(values: Sequence[float]) -> str:
    """The mean, and the lowest and highest.

    >>> format_spread([1.0, 2.0])
    '1.50 (1.00–2.00)'
    """
    known = [value for value in values if value == value]
    if not known:
        return "–"
    return f"{np.mean(known):.2f} ({min(known):.2f}–{max(known):.2f})"


def print_nezha(found: Mapping[str, Mapping[str, float]]) -> None:
    """A table with a row for each way to train and to name groups; chance in brackets."""
    print(
        "| groups, trained on, tested on | faults caught | resource faults | false a day among "
        "faults | incidents a day in quiet hours | first named | among the first three |\n"
        "|---|---|---|---|---|---|---|"
    )
    for name, each in found.items():
        cells = (
            f"{each['caught']} of {each['faults']} ({each['caught_by_chance']:.1f})",
            f"{each['resource_caught']} of {each['resource']} ({each['resource_by_chance']:.1f})",
            f"{each['false_per_day_among_faults']:.0f}",
            f"{each['per_day_in_quiet_hours']:.0f}",
            f"{each['first_named']} ({each['first_by_chance']:.1f})",
            f"{each['three_named']} ({each['three_by_chance']:.1f})",
        )
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
