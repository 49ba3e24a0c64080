"""Fitting to groups by workers that note what they begin."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from promad.config import TrainingSettings
from promad.training import group_runs
from promad.training.group_fitting import GroupData

fit_or_refuse = group_runs.fit_or_refuse

NOTES = "PROMAD_TEST_NOTES"
"""The variable that names the file in which workers note what they begin."""


def note_and_fit(settings: TrainingSettings, data: GroupData) -> Any:
    """Fit to a group, once it is noted that this begins; slowly, so that a worker can be killed."""
    ((_, name),) = data.frames[0].groups[0]
    with Path(os.environ[NOTES]).open("a") as notes:
        notes.write(f"{os.getpid()} {name}\n")
    time.sleep(0.1)
    return fit_or_refuse(settings, data)
