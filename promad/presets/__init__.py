"""Queries for common exporters, and how `promad init` makes a configuration of them.

A preset is one YAML file in this directory: an exporter's queries as templates of PromQL, with
unit, meaning, direction and valid range. `loading` reads it; `timing` chooses step and windows by
the scrape interval; `selection` names the queries that do not hold on a server; `fitting` asks the
server; `writing` renders the configuration with its comments.
"""

from promad.presets.loading import PRESETS, Preset, PresetQuery, list_metrics, load_preset
from promad.presets.timing import Timing, choose_timing
from promad.presets.writing import Draft, render_config

__all__ = [
    "PRESETS",
    "Draft",
    "Preset",
    "PresetQuery",
    "Timing",
    "choose_timing",
    "list_metrics",
    "load_preset",
    "render_config",
]
