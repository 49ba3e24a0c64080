"""`StateFile`: what a detector remembers of its groups, in one file of arrays.

A restart continues from it. It is read only where every array is of the form that the same detector
writes; anything else is logged, and detection starts fresh.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from promad.data.groups import Labels, sort_labels
from promad.detection.state import State
from promad.errors import DataError
from promad.files import DAMAGED, open_plain, write_whole

FILE_NAME = "detection_state.npz"
"""What the file is called, in artifacts_dir or in the directory of a shard."""

MOVED_NAME = "detection_state_moved.npz"
"""The file as it was before groups in it moved to other shards, which may read it later."""

_SAVE_SECONDS = 60.0
_SAVE_SECONDS_PER_BYTE = 60.0 / 4e6
_LONGEST_SAVE_SECONDS = 300.0
"""A large state is saved less often: what is missing is judged again after a restart."""
_MOST_BYTES = 2**30
_LEFT_OUT = frozenset({"scoring", "mutes"})
"""Parts of the state that are made anew: windows are read again from the newest samples."""

_ADDED = (
    *("restarted_at", "events.height", "onsets.", "held.", "events.deviations."),
    *("events.muted", "events.silent", "events.unmuted_at"),
)
"""Arrays and parts that files of earlier versions lack; they stay as in a fresh state."""

log = structlog.get_logger()

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class SavedState:
    """What a file holds: the groups, their arrays, and what is remembered of all together."""

    groups: tuple[Labels, ...]
    arrays: Arrays
    shared: Mapping[str, Any]

    def restore(self, state: State) -> None:
        """Fill a fresh state of these groups.

        Raises:
            KeyError, TypeError, ValueError: if an array is not of the form of the state's own.
        """
        for path, owner, name, value in _walk(state):
            if path not in self.arrays and path.startswith(_ADDED):
                continue
            _put(owner, name, value, self.arrays[path])


@dataclass
class StateFile:
    """The saved state of one detector, beside its bundles.

    Attributes:
        bundle: the id of the bundle at work; the state of another is of no use.
        other_bundle: whether what was read is of another one.
    """

    directory: Path
    bundle: str
    name: str = FILE_NAME
    other_bundle: bool = field(default=False, init=False)
    _saved_at: float | None = field(default=None, init=False)
    _pause: float = field(default=_SAVE_SECONDS, init=False)
    _failing: bool = field(default=False, init=False)

    def read(self) -> SavedState | None:
        """What was saved for this bundle; None if nothing was, or if it is unreadable."""
        path = self.directory / self.name
        try:
            with self._open() as stored:
                about = json.loads(str(stored["about"]))
                self.other_bundle = about["bundle"] != self.bundle
                if self.other_bundle:
                    return None
                groups = tuple(sort_labels(labels) for labels in about["groups"])
                arrays = {name: stored[name] for name in stored if name != "about"}
                return SavedState(groups, arrays, about["shared"])
        except FileNotFoundError:
            return None
        except DAMAGED as error:
            log.warning(
                "saved detector state is unreadable; starting fresh",
                file=str(path),
                error=str(error),
            )
            return None

    def read_groups(self) -> tuple[Labels, ...]:
        """The groups that were saved, of whatever bundle; none if nothing readable was."""
        try:
            with self._open() as stored:
                groups = json.loads(str(stored["about"]))["groups"]
                return tuple(sort_labels(labels) for labels in groups)
        except DAMAGED:
            return ()

    def keep_moved(self) -> None:
        """Keep the file as it is for other shards, before it is written without their groups."""
        try:
            with write_whole(self.directory / MOVED_NAME) as aside:
                shutil.copyfile(self.directory / self.name, aside)
        except (DataError, OSError) as error:
            log.warning("state of moved groups not kept", error=str(error))

    @contextmanager
    def _open(self) -> Iterator[Arrays]:
        with (
            open_plain(self.directory / self.name, _MOST_BYTES) as file,
            np.load(file, allow_pickle=False) as stored,
        ):
            yield stored

    def is_due(self, now: float) -> bool:
        """Whether it was not saved for a minute, a large one for five; `now` in unix seconds."""
        return self._saved_at is None or not 0 <= now - self._saved_at < self._pause

    def save(self, state: State, shared: Mapping[str, Any], now: float) -> None:
        """Save a state, and plain JSON values about all groups together."""
        self._saved_at = now
        about = {
            "bundle": self.bundle,
            "groups": [dict(labels) for labels in state.labels],
            "shared": shared,
        }
        arrays = {path: _take(value) for path, _, _, value in _walk(state)}
        text = json.dumps(about)
        size = sum(array.nbytes for array in arrays.values()) + len(text)
        self._pause = min(max(_SAVE_SECONDS, size * _SAVE_SECONDS_PER_BYTE), _LONGEST_SAVE_SECONDS)
        path = self.directory / self.name
        try:
            with write_whole(path) as aside, aside.open("wb") as file:
                np.savez(file, allow_pickle=False, about=np.array(text), **arrays)
        except DataError as error:
            if not self._failing:
                log.warning("detector state not saved", file=str(path), error=str(error))
            self._failing = True
        else:
            self._failing = False


def _walk(thing: Any, above: str = "") -> Iterator[tuple[str, Any, str, Any]]:
    """Every array and list over groups: its path, its owner, its name there, and itself."""
    for name, value in _list_parts(thing):
        if name in _LEFT_OUT:
            continue
        path = f"{above}{name.lstrip('_')}"
        if isinstance(value, np.ndarray) or (isinstance(value, list) and _is_per_group(value)):
            yield path, thing, name, value
        elif type(value).__module__.startswith("promad.") and not isinstance(value, type):
            yield from _walk(value, f"{path}.")


def _list_parts(thing: Any) -> Iterator[tuple[str, Any]]:
    fields = getattr(thing, "_fields", None)
    names: Sequence[str] = fields if fields is not None else list(vars(thing))
    for name in names:
        yield name, getattr(thing, name)


def _is_per_group(values: list[Any]) -> bool:
    return all(isinstance(each, str | list) for each in values)


def _take(value: Any) -> NDArray[Any]:
    return value if isinstance(value, np.ndarray) else np.array(json.dumps(value))


def _put(owner: Any, name: str, value: Any, saved: NDArray[Any]) -> None:
    """Copy a saved array or list into one of the same form."""
    if isinstance(value, list):
        found = json.loads(str(saved))
        if len(found) != len(value) or not _is_per_group(found):
            raise ValueError(f"{name} is not of these groups")
        value[:] = found
        return
    if saved.shape != value.shape or saved.dtype != value.dtype:
        raise ValueError(f"{name} has the form {saved.dtype}{saved.shape}")
    value[...] = saved
