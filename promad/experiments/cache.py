"""The evaluation cache: rows of finished tasks, so that an interrupted evaluation can resume."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promad
from promad.experiments.rows import Row, Rows
from promad.experiments.tasks import Task
from promad.files import write_whole

_IRRELEVANT = {"name", "artifacts_dir", "prometheus_url", "prometheus", "queries"}


@dataclass(frozen=True)
class EvaluationCache:
    """A directory with a file for each finished task.

    A file is valid as long as the configuration, the version of promad, the entity's files and the
    scores that were written are unchanged.
    """

    directory: Path

    @staticmethod
    def beside(path: Path) -> EvaluationCache:
        """The cache of the evaluation whose figures will be written to `path`."""
        return EvaluationCache(path.with_name(f"{path.name}.partial"))

    def load(self, task: Task) -> Rows | None:
        """The rows of a task; None if there are none, or they are no longer valid."""
        try:
            content = json.loads(self._path(task).read_text())
        except (OSError, ValueError):
            return None
        if content["key"] != _key(task) or content["scores"] != _stamp(task.scores_path):
            return None
        return {name: Row.from_json(row) for name, row in content["rows"].items()}

    def store(self, task: Task, rows: Rows) -> None:
        """Write the rows of a task.

        Raises:
            DataError: if the directory cannot be written.
        """
        content = {
            "key": _key(task),
            "scores": _stamp(task.scores_path),
            "rows": {name: row.to_json() for name, row in rows.items()},
        }
        with write_whole(self._path(task)) as aside:
            aside.write_text(json.dumps(content))

    def remove(self) -> None:
        """Delete the directory and its files, if it exists."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _path(self, task: Task) -> Path:
        return self.directory / f"{task.entity}.{task.row}.{task.seed}.json"


def _key(task: Task) -> str:
    """A digest of all that the rows of a task depend on."""
    files = [
        path
        for folder in task.fleet or (task.folder,)
        for path in sorted(folder.iterdir())
        if path.is_file()
    ]
    parts: Sequence[Any] = (
        promad.__version__,
        task.config.model_dump(mode="json", exclude=_IRRELEVANT),
        task.columns,
        task.budgets,
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
