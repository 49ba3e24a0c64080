"""What is known of files of the host: which can be written, and who can read those with secrets."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, SecretStr

from promad.diagnosis.evidence import SecretFile

_OTHERS_READ, _OTHERS_ENTER = 0o004, 0o001
_PUBLIC = {"ca_file", "cert_file"}
"""Keys of files that hold no secret."""

_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")


def find_write_problem(directory: Path) -> str:
    """Why nothing can be written into a directory that may not exist yet; empty if it can."""
    nearest = find_existing(directory)
    if not nearest.is_dir():
        return f"{nearest} is not a directory"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"{nearest} cannot be written by this user"
    return ""


def find_existing(path: Path) -> Path:
    """The path, or the nearest one above it that exists."""
    return next(each for each in (path, *path.parents) if each.exists())


def measure_free_bytes(directory: Path) -> int | None:
    """The free space of the disk of a directory that may not exist yet; None if unknown."""
    try:
        return shutil.disk_usage(find_existing(directory)).free
    except OSError:
        return None


def list_secrets(settings: BaseModel, section: str, config_file: Path) -> list[SecretFile]:
    """The files with secrets that settings name, and their own file if they have a secret itself.

    Args:
        section: the place of the settings in the configuration.
    """
    found = [_look_at(key, path) for key, path in _list_secret_files(settings, section)]
    inline = next(_list_inline_secrets(settings, section), None)
    return found if inline is None else [*found, _look_at(inline, config_file)]


def read_memory_limit(limit_file: Path = _MEMORY_LIMIT) -> float:
    """Bytes that this process may use: those of the machine, or of its control group if less."""
    machine = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        return min(machine, float(limit_file.read_text()))  # "max" if there is no limit
    except (OSError, ValueError):
        return machine


def _list_secret_files(settings: BaseModel, section: str) -> Iterator[tuple[str, Path]]:
    for key, value in _list_values(settings, section):
        name = key.rpartition(".")[2]
        if isinstance(value, Path) and name not in _PUBLIC:
            yield key, value


def _list_inline_secrets(settings: BaseModel, section: str) -> Iterator[str]:
    for key, value in _list_values(settings, section):
        if isinstance(value, SecretStr):
            yield key


def _list_values(settings: BaseModel, section: str) -> Iterator[tuple[str, object]]:
    """Every value in settings with its key, those in sections, mappings and lists too."""
    for name, value in settings:
        yield from _open_value(f"{section}.{name}", value)


def _open_value(key: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, BaseModel):
        yield from _list_values(value, key)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _open_value(f"{key}.{name}", inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _open_value(key, inner)
    else:
        yield key, value


def _look_at(key: str, path: Path) -> SecretFile:
    """Whether a file can be read, and by whom."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
    except OSError as error:
        return SecretFile(key, path, problem=error.strerror or str(error))
    return SecretFile(key, path, mode=mode if mode & _OTHERS_READ and _is_in_reach(path) else None)


def _is_in_reach(path: Path) -> bool:
    """Whether other users can enter all directories above a file."""
    parents = path.resolve().parents
    return all(parent.stat().st_mode & _OTHERS_ENTER for parent in parents)
