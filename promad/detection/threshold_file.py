"""`ThresholdFile`: a threshold at work, kept in a file so that a restart does not forget it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from promad.detection.state import State
from promad.errors import DataError
from promad.files import DAMAGED, explain_damage, read_plain, write_whole

FILE_NAME = "threshold_state.json"
"""What the file is called, in artifacts_dir."""

_FORMER_NAME = "threshold_standing.json"
_SAVE_SECONDS = 600.0
_LARGEST = 256 * 2**20
"""Bytes; a state is some 50 kB for each group."""

log = structlog.get_logger()


@dataclass
class ThresholdFile:
    """The threshold states of one detector's groups, beside its bundles; see `FILE_NAME`.

    A file that cannot be read or written is logged, and the threshold begins with its bundle.
    """

    directory: Path
    bundle: str
    _saved_at: float | None = field(default=None, init=False)

    def resume(self, state: State) -> None:
        """Let each group's threshold continue from where a daemon on the same bundle saved it."""
        try:
            saved = self._read(state)
            for group, name in enumerate(state.names):
                if name in saved:
                    state.limits.resume(group, saved[name])
        except FileNotFoundError:
            pass
        except DAMAGED as error:
            log.warning(
                "saved threshold state is unreadable; starting fresh",
                file=str(self.directory / FILE_NAME),
                error=explain_damage(error),
            )

    def _read(self, state: State) -> Mapping[str, Any]:
        """By group what was saved for this bundle."""
        path = self.directory / FILE_NAME
        if not os.path.lexists(path):
            content = json.loads(read_plain(self.directory / _FORMER_NAME, _LARGEST))
            content["groups"] = {state.names[0]: content["standing"]}
        else:
            content = json.loads(read_plain(path, _LARGEST))
        groups: Mapping[str, Any] = content["groups"] if content["bundle"] == self.bundle else {}
        return groups

    def save_if_due(self, state: State, now: float) -> None:
        """Save if that was not done for ten minutes; `now` in unix seconds."""
        if self._saved_at is None:
            self._saved_at = now
        if now - self._saved_at >= _SAVE_SECONDS:
            self.save(state, now)

    def save(self, state: State, now: float) -> None:
        """Save every group's threshold state."""
        self._saved_at = now
        groups = {name: state.limits.to_json(group) for group, name in enumerate(state.names)}
        path = self.directory / FILE_NAME
        try:
            with write_whole(path) as aside:
                aside.write_text(json.dumps({"bundle": self.bundle, "groups": groups}))
        except DataError as error:
            log.warning("threshold state not saved", file=str(path), error=str(error))
