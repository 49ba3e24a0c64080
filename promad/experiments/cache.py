"""What an evaluation has found so far, kept so that one which was interrupted can go on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promad
from promad.experiments.rows import Row, Rows, Task
from promad.files import written_whole

_NO_PART = {"name", "artifacts_dir", "prometheus_url", "prometheus", "queries"}


@dataclass(frozen=True)
class Kept:
    """A directory with a file for each task that is done.

    A file is of use as long as the configuration, the version of promad, the entity's files and
    the scores that were left are what they were.
    """

    directory: Path

    def rows(self, task: Task) -> Rows | None:
        """What was found for a task, if it still holds."""
        try:
            content = json.loads(self._path(task).read_text())
        except (OSError, ValueError):
            return None
        if content["key"] != _key(task) or content["scores"] != _stamp(task.scores_path):
            return None
        return {name: Row.from_json(row) for name, row in content["rows"].items()}

    def keep(self, task: Task, rows: Rows) -> None:
        """Write down what was found for a task.

        Raises:
            DataError: if the directory cannot be written.
        """
        content = {
            "key": _key(task),
            "scores": _stamp(task.scores_path),
            "rows": {name: row.to_json() for name, row in rows.items()},
        }
        with written_whole(self._path(task)) as aside:
            aside.write_text(json.dumps(content))

    def remove(self) -> None:
        """Take the directory away, and all that is in it; there need not be one."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _path(self, task: Task) -> Path:
        return self.directory / f"{task.entity}.{task.row}.{task.seed}.json"


def kept_beside(path: Path) -> Kept:
    """Where an evaluation keeps what it has, until it writes the file at `path`."""
    return Kept(path.with_name(f"{path.name}.partial"))


def _key(task: Task) -> str:
    """What the outcome of a task depends on, as a digest."""
    files = sorted(path for path in task.folder.iterdir() if path.is_file())
    parts: Sequence[Any] = (
        promad.__version__,
        task.config.model_dump(mode="json", exclude=_NO_PART),
        task.columns,
        None if task.scores_path is None else str(task.scores_path.resolve()),
        [(path.name, _stamp(path)) for path in files],
    )
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _stamp(path: Path | None) -> list[int] | None:
    """Size and time of change of a file, if there is one."""
    if path is None or not path.exists():
        return None
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
