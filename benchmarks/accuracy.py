"""How good every model is on labelled data, beside untrained baselines; writes accuracy.md.

    python -m benchmarks.accuracy --data DIR [--only smd asd ...] [--seeds 3] [--jobs 2]

DIR holds SMD, ASD, SMAP, MSL and NAB (`promad datasets fetch` brings most of them). Every run is
`promad evaluate` with one fixed configuration for all entities of a data set: promad's defaults but
for the step that the publishers state. What was measured is kept below `--work`, so an
interrupted run resumes, and the page is written from what is there.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import promad

MODELS = ("lstm_autoencoder", "tranad", "fusion")
PAGE = Path(__file__).parent / "accuracy.md"
CONFIG = Path(__file__).parent.parent / "config.yaml"
BUDGETS = (1, 2, 7)
"""False alarms a week."""


@dataclass(frozen=True)
class Run:
    """One `promad evaluate`: what it is called, on which data, which models, with which keys."""

    name: str
    data: str
    models: tuple[str, ...]
    seeds: int
    keys: tuple[str, ...]
    entities: tuple[str, ...] = ()


def runs(seeds: int) -> Iterator[Run]:
    """Everything that is measured, the cheap first."""
    steps = {"SMD": "60s", "ASD": "300s", "SMAP": "60s", "MSL": "60s"}
    for data, step in steps.items():
        keys = (f"data_settings.step={step}",)
        yield Run(f"{data.lower()}-linear", data, ("linear",), 1, keys)
    yield Run("nab-linear", "NAB", ("linear",), 1, ())
    for data in ("ASD", "SMD"):
        for model in MODELS:
            keys = (f"data_settings.step={steps[data]}",)
            yield Run(f"{data.lower()}-{model}", data, (model,), seeds, keys)
    yield Run(
        "smd-tranad-paper",
        "SMD",
        ("tranad",),
        seeds,
        ("data_settings.step=60s", "training_settings.preset=paper"),
        ("machine-2-1", "machine-3-2"),
    )
    yield Run(
        "smd-lstm_autoencoder-mse",
        "SMD",
        ("lstm_autoencoder",),
        1,
        ("data_settings.step=60s", "training_settings.scoring=mse"),
    )
    for data in ("MSL", "SMAP"):
        for model in MODELS:
            keys = (f"data_settings.step={steps[data]}",)
            yield Run(f"{data.lower()}-{model}", data, (model,), 1, keys)


def main() -> None:
    arguments = parse_arguments()
    arguments.work.mkdir(parents=True, exist_ok=True)
    wanted = [run for run in runs(arguments.seeds) if chosen(run, arguments.only)]
    for run in wanted if not arguments.page_only else ():
        outcome = arguments.work / f"{run.name}.json"
        if not outcome.exists():
            print(f"== {run.name}", flush=True)
            subprocess.run(command(run, arguments.data, outcome, arguments.jobs), check=False)
    page(list(runs(arguments.seeds)), arguments.work)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--only", nargs="*", default=(), help="runs whose name contains one of these"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("artifacts/accuracy"))
    parser.add_argument("--page-only", action="store_true")
    return parser.parse_args()


def chosen(run: Run, only: Sequence[str]) -> bool:
    return not only or any(part in run.name for part in only)


def command(run: Run, data: Path, outcome: Path, jobs: int) -> list[str]:
    """The command line, which may as well be typed by hand."""
    options = ["--seeds", str(run.seeds), "--jobs", str(jobs), "--json", str(outcome)]
    if run.data != "NAB":
        options += ["--budgets", ",".join(map(str, BUDGETS))]
    for model in run.models:
        options += ["--model", model]
    for key in run.keys:
        options += ["--set", key]
    for entity in run.entities:
        options += ["--entity", entity]
    start = [sys.executable, "-m", "promad", "-c", str(CONFIG), "evaluate"]
    return [*start, str(data / run.data), *options]


# The page


RANKING = (
    ("VUS-PR", "vus_pr"),
    ("VUS-PR (10)", "vus_10_pr"),
    ("VUS-ROC", "vus_roc"),
    ("AUC-PR", "auc_pr"),
    ("recall", "event_recall"),
    ("precision", "alarm_precision"),
    ("false/week", "false_episodes_per_week"),
    ("delay", "delay_median_seconds"),
    ("affil. F1", "affiliation_f1"),
)
EXTENTS = (
    ("overhang, median", "overhang_median_samples"),
    ("90 %", "overhang_p90_samples"),
    ("peak lag, 90 %", "peak_lag_p90_samples"),
    ("fragments", "fragments_mean"),
    ("coverage", "coverage_mean"),
)
CAUSES = (
    ("Hit@100", "sample_hit_rate_at_100"),
    ("Hit@150", "sample_hit_rate_at_150"),
    ("segment Hit@100", "segment_hit_rate_at_100"),
    ("segment Hit@150", "segment_hit_rate_at_150"),
)


def page(all_runs: Sequence[Run], work: Path) -> None:
    """Write the page from the outcomes that are there."""
    found = {
        run.name: (run, json.loads((work / f"{run.name}.json").read_text()))
        for run in all_runs
        if (work / f"{run.name}.json").exists()
    }
    parts = [_head(), *(_data_set(name, found) for name in ("SMD", "ASD", "SMAP", "MSL"))]
    parts += [_plain_error(found), _budgets(found), _extents(found), _causes(found)]
    parts += [_papers(found), _nab(found)]
    PAGE.write_text("\n\n".join(part for part in parts if part) + "\n")
    print(f"{len(found)} of {len(all_runs)} runs → {PAGE}")


def _head() -> str:
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("numpy", "tensorflow", "keras", "onnxruntime")
    )
    return f"""# Accuracy

Written by `python -m benchmarks.accuracy --data DIR` on {datetime.now(UTC):%Y-%m-%d} with promad
{promad.__version__}, Python {platform.python_version()}, {libraries}.

Every model has one fixed configuration, promad's defaults, for all entities of all data sets.
Scores are causal, thresholds come from the training part alone, nothing is point-adjusted unless
stated. Figures are means over entities, and over seeds where there are several; ± is the
standard deviation between seeds of that mean. An interval in brackets has 90 % of the means of
entities drawn anew with replacement. VUS windows are 100 samples, or 10 where stated.
`linear` involves no randomness, so it has no spread. Of SMAP and MSL telemetry alone is scored."""


Found = Mapping[str, tuple[Run, Mapping[str, Any]]]


def _rows(found: Found, data: str, plain: bool = True) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of a data set's default runs: models as named, naive scores once."""
    seen = set()
    for run, outcome in found.values():
        if run.data != data or run.entities or (plain and not _is_default(run)):
            continue
        for row in (*run.models, *outcome["rows"]):
            if row not in seen and row in outcome["rows"]:
                seen.add(row)
                yield row, outcome


def _is_default(run: Run) -> bool:
    return all(key.startswith("data_settings.step") for key in run.keys)


def _data_set(data: str, found: Found) -> str:
    rows = sorted(_rows(found, data), key=lambda each: -(_mean(each[1], each[0], "vus_pr") or 0))
    if not rows:
        return ""
    lines = [
        f"| {_cell(name)} | {_with_spread(outcome, name, 'vus_pr')} | "
        + " | ".join(_shown(key, _mean(outcome, name, key)) for _, key in RANKING[1:])
        + f" | {_seeds(outcome, name)} |"
        for name, outcome in rows
    ]
    entities = len(rows[0][1]["entities"])
    names = [title for title, _ in RANKING]
    return "\n".join(
        [f"## {data}, {entities} entities", "", *_header(["", *names, "seeds"]), *lines]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _header(names: Sequence[str]) -> list[str]:
    return ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]


def _mean(outcome: Mapping[str, Any], row: str, key: str) -> float | None:
    value: float | None = outcome["rows"][row]["mean"].get(key)
    return value


def _with_spread(outcome: Mapping[str, Any], row: str, key: str) -> str:
    by_entity = outcome["rows"][row]["seeds"]
    by_seed = [
        np.mean([seeds[str(seed)][key] for seeds in by_entity.values()])
        for seed in outcome["seeds"]
    ]
    spread = f" ± {np.std(by_seed, ddof=1):.3f}" if len(by_seed) > 1 and row != "linear" else ""
    low, high = outcome["rows"][row]["interval_90"][key]
    return f"{np.mean(by_seed):.3f}{spread} ({low:.2f}–{high:.2f})"


def _seeds(outcome: Mapping[str, Any], row: str) -> str:
    return "–" if row == "linear" else str(len(outcome["seeds"]))


def _shown(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    if key.endswith("_seconds"):
        return f"{value / 60:.1f} min"
    return f"{value:.2f}" if key.endswith("per_week") else f"{value:.3f}"


def _plain_error(found: Found) -> str:
    if "smd-lstm_autoencoder-mse" not in found:
        return ""
    value = _mean(found["smd-lstm_autoencoder-mse"][1], "lstm_autoencoder", "vus_pr")
    return (
        "With the original's scoring, the mean squared error over the window (`scoring: mse`), the "
        f"same\nautoencoder has a VUS-PR of {_shown('', value)} on SMD (one seed)."
    )


def _budgets(found: Found) -> str:
    """Recall at false alarms a week, and what the best single limit of each entity reaches."""
    lines = []
    for data in ("SMD", "ASD", "SMAP", "MSL"):
        for row, outcome in _rows(found, data):
            if row not in ("linear", *MODELS):
                continue
            means, intervals = (outcome["rows"][row][key] for key in ("mean", "interval_90"))
            for budget in outcome["budgets"]:
                own, best = (f"{name}_{budget:g}_" for name in ("budget", "best_limit"))
                low, high = intervals[f"{own}event_recall"]
                lines.append(
                    f"| {data} | {row} | {budget:g} | {means[f'{own}event_recall']:.3f} "
                    f"({low:.2f}–{high:.2f}) | {means[f'{own}false_episodes_per_week']:.2f} | "
                    f"{means[f'{best}event_recall']:.3f} | "
                    f"{means[f'{best}false_episodes_per_week']:.2f} |"
                )
    if not lines:
        return ""
    titles = ["", "", "budget", "recall", "false/week", "best limit: recall", "false/week"]
    return "\n".join(
        [
            "## Alert budgets",
            "",
            "Events detected at the threshold that training chose for a number of false alarms a "
            "week, and\nat the single limit of each entity that is best by the labels within that "
            "number.",
            "",
            *_header(titles),
            *lines,
        ]
    )


def _extents(found: Found) -> str:
    """How well events end, on shifts that were put into held-out normal data."""
    lines = []
    for data in ("SMD", "ASD"):
        for row, outcome in _rows(found, data):
            figures = outcome["injected"].get(row)
            if figures:
                cells = " | ".join(f"{figures[key]:.2f}" for _, key in EXTENTS)
                lines.append(f"| {data} | {row} | {cells} |")
    titles = ["", "", *(title for title, _ in EXTENTS)]
    head = ["## Extents of events on injected shifts, in samples", "", *_header(titles)]
    return "\n".join([*head, *lines]) if lines else ""


def _causes(found: Found) -> str:
    parts = []
    for data in ("SMD", "ASD"):
        lines = [
            f"| {_cell(name)} | "
            + " | ".join(_shown("", _mean(outcome, name, key)) for _, key in CAUSES)
            + " |"
            for name, outcome in _rows(found, data)
            if _mean(outcome, name, CAUSES[0][1]) is not None
        ]
        if lines:
            titles = ["", *(title for title, _ in CAUSES)]
            parts.append("\n".join([f"## Causes named, {data}", "", *_header(titles), *lines]))
    return "\n\n".join(parts)


def _papers(found: Found) -> str:
    if "smd-tranad-paper" not in found:
        return ""
    outcome = found["smd-tranad-paper"][1]
    adjusted = "papers_only_point_adjusted_f1"
    lines = [
        f"| {entity} | {figures[adjusted]:.3f} | {figures[adjusted + '_of_random']:.3f} | "
        f"{figures['vus_pr']:.3f} |"
        for entity, figures in outcome["rows"]["tranad"]["entities"].items()
    ]
    titles = ["machine", "point-adjusted F1", "of random scores", "VUS-PR"]
    return "\n".join(
        [
            f"## TranAD as published (`preset: paper`), {len(outcome['seeds'])} seeds",
            "",
            "The threshold of the point-adjusted figure is chosen with the labels, as papers do.",
            "",
            *_header(titles),
            *lines,
        ]
    )


def _nab(found: Found) -> str:
    if "nab-linear" not in found:
        return ""
    outcome, hows = found["nab-linear"][1], ("by_event", "at_threshold", "optimised")
    lines = [
        "| {} | {:.1f} | {:.1f} | {:.1f} |".format(
            _cell(row), *(scores[how]["standard"] for how in hows)
        )
        for row, scores in outcome["nab"].items()
    ]
    titles = [
        "",
        "standard, one detection per event",
        "standard, each sample above the threshold",
        "standard, threshold chosen with the labels",
    ]
    return "\n".join(["## NAB, realKnownCause", "", *_header(titles), *lines])


if __name__ == "__main__":
    main()
