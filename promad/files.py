"""Files that appear whole or not at all, and files that are plain and of a bounded size."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tokenize
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from zipfile import BadZipFile

from promad.errors import DataError

_ASIDE = re.compile(r"\..+\.(\d+)\.partial")


DAMAGED = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
    BadZipFile,
    tokenize.TokenError,
    zlib.error,
)
"""What Python, numpy (whose headers are Python) and zipfile raise on content that means nothing."""


def explain_damage(error: BaseException) -> str:
    """The reason in one line.

    >>> explain_damage(MemoryError()), explain_damage(ValueError("too  short"))
    ('MemoryError', 'too short')
    """
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()) or type(error).__name__


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """A path to write to in place of `path`, which it becomes once the block ends well.

    Raises:
        DataError: if the directory cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        os.replace(aside, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            aside.unlink()


def remove_abandoned(directory: Path) -> None:
    """Remove what was being written below a directory when its process was killed."""
    for path in list(directory.rglob(".*.partial")):
        found = _ASIDE.fullmatch(path.name)
        if found is not None and not is_running(int(found[1])):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()


def is_running(process: int) -> bool:
    """Whether there is a process of that number."""
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def open_plain(path: Path, most: int, *, follow_links: bool = False) -> BufferedReader:
    """A regular file of at most `most` bytes, open for reading.

    A device, a FIFO or a directory is refused before it is opened.

    Args:
        follow_links: whether a link to such a file may be opened; else it is refused as well.

    Raises:
        OSError: whose `strerror` says what is there instead.
    """
    _require_plain(os.stat(path, follow_symlinks=follow_links), most)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags if follow_links else flags | os.O_NOFOLLOW)
    file = os.fdopen(descriptor, "rb")
    try:
        _require_plain(os.fstat(descriptor), most)
    except OSError:
        file.close()
        raise
    return file


def read_plain(path: Path, most: int, *, follow_links: bool = False) -> bytes:
    """The content of a regular file of at most `most` bytes; see `open_plain`."""
    with open_plain(path, most, follow_links=follow_links) as file:
        return file.read(os.fstat(file.fileno()).st_size)  # no buffer larger than the file


def _require_plain(found: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "special file")
        raise OSError(errno.EINVAL, f"not a regular file: a {kind}")
    if found.st_size > most:
        raise OSError(errno.EFBIG, f"{found.st_size:,} bytes; at most {most:,} are allowed")


_KINDS = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFDIR: "directory",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
