"""`DirectoryLock`: one daemon at a time saves its state in a directory, and says how it is."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from promad.errors import PromadError

FILE_NAME = ".detect.lock"
_LARGEST_BYTES = 64 * 1024


@dataclass(frozen=True)
class DaemonStatus:
    """What a daemon writes into the file that it holds.

    Attributes:
        process: the id of its process, in its own PID namespace.
        loaded_at: when its last start or reload began, by the clock of `time.monotonic`, which all
            processes of a machine share.
        error: why that failed; empty if it did not.
    """

    process: int
    loaded_at: float
    error: str = ""


@dataclass(frozen=True)
class DirectoryLock:
    """A directory held by this process; the system lets go of it when the process ends."""

    descriptor: int

    def write(self, status: DaemonStatus) -> None:
        """Say who holds the directory; a full disk is no reason to end."""
        content = json.dumps(asdict(status)).encode()[:_LARGEST_BYTES]
        try:
            os.pwrite(self.descriptor, content, 0)
            os.ftruncate(self.descriptor, len(content))
        except OSError:
            return

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
    lock = DirectoryLock(descriptor)
    lock.write(DaemonStatus(os.getpid(), time.monotonic(), "still starting"))
    return lock


def read_status(directory: Path) -> DaemonStatus | None:
    """What the daemon of a directory has written last, whether or not it still runs.

    None if there was none, or it is writing now.

    Raises:
        PromadError: if the directory cannot be read.
    """
    try:
        with (directory / FILE_NAME).open("rb") as file:
            found = json.loads(file.read(_LARGEST_BYTES))
        return DaemonStatus(int(found["process"]), float(found["loaded_at"]), str(found["error"]))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PromadError(f"{directory}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, LookupError):
        return None


def holds_directory(process: int, directory: Path) -> bool:
    """Whether a process of this PID namespace has the directory's file open.

    Raises:
        PermissionError: if that is not to be known: the process is of another user.
    """
    held = (directory / FILE_NAME).stat()
    descriptors = Path(f"/proc/{process}/fd")
    try:
        names = list(descriptors.iterdir())
    except FileNotFoundError:
        return False
    return any(_is_same_file(each, held) for each in names)


def _is_same_file(path: Path, other: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), other)
    except OSError:
        return False
