"""Comparing what batch and stream yield: the same words, and numbers to some digits."""

from dataclasses import asdict, is_dataclass

import numpy as np


def round_numbers(thing, digits=9):
    """Dataclasses, lists and mappings as plain values, with numbers to so many digits."""
    if isinstance(thing, float):
        return "nan" if np.isnan(thing) else float(f"{thing:.{digits}g}")
    if isinstance(thing, list | tuple):
        return [round_numbers(each, digits) for each in thing]
    if isinstance(thing, dict):
        return {name: round_numbers(each, digits) for name, each in thing.items()}
    return round_numbers(asdict(thing), digits) if is_dataclass(thing) else thing
