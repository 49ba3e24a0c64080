"""`DirectoryLock`: one daemon at a time saves its state in a directory."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from promad.errors import PromadError

FILE_NAME = ".detect.lock"


@dataclass(frozen=True)
class DirectoryLock:
    """A directory held by this process; the system lets go of it when the process ends."""

    descriptor: int

    def release(self) -> None:
        """Let another process have it."""
        os.close(self.descriptor)


def lock_directory(directory: Path) -> DirectoryLock:
    """The directory, held until it is released.

    Raises:
        PromadError: if another process holds it, or it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise PromadError(f"{directory}: cannot be written ({error.strerror})") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise PromadError(
            f"{directory}: another promad detect uses this directory — stop it, or set another "
            "artifacts_dir"
        ) from None
    return DirectoryLock(descriptor)
