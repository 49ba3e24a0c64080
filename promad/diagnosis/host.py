"""Checks of the host: files that stages write and read, and room for them."""

from __future__ import annotations

from promad.diagnosis.evidence import Host
from promad.diagnosis.findings import Fact, Finding, Yield


def find_unwritable_directory(host: Host) -> Yield:
    """A directory of artifacts that cannot be written."""
    if host.problem:
        yield Finding(
            "error",
            f"artifacts_dir ({host.artifacts_dir})",
            host.problem,
            "give the user of promad write access to it, or set another artifacts_dir",
        )


def find_unreadable_secrets(host: Host) -> Yield:
    """Files with secrets that cannot be read."""
    for secret in host.secrets:
        if secret.problem:
            yield Finding(
                "error",
                f"{secret.key} ({secret.path})",
                f"cannot be read: {secret.problem}",
                "create the file, and give the user of promad read access to it",
            )


def find_exposed_secrets(host: Host) -> Yield:
    """Files with secrets that any local user can read."""
    for secret in host.secrets:
        if secret.mode is not None:
            yield Finding(
                "warning",
                f"{secret.key} ({secret.path})",
                f"any local user can read it (mode {secret.mode:04o})",
                f"chmod o-rwx {secret.path}",
            )


def find_full_disk(host: Host) -> Yield:
    """Too little room for what the stages write."""
    if host.free_bytes is None:
        return
    free, needed = _format_bytes(host.free_bytes), _format_bytes(host.needed_bytes)
    if host.free_bytes >= host.needed_bytes:
        yield Fact("disk", f"{free} free, collect and the stages after it need about {needed}")
        return
    yield Finding(
        "error",
        f"artifacts_dir ({host.artifacts_dir})",
        f"{free} free, collect and the stages after it need about {needed}",
        "free space, shorten collection_period_hours, or set another artifacts_dir",
    )


def _format_bytes(count: int) -> str:
    """Bytes in MB or GB.

    >>> _format_bytes(12_300_000), _format_bytes(123_000_000_000)
    ('12 MB', '123 GB')
    """
    return f"{count / 1e9:,.0f} GB" if count >= 10e9 else f"{count / 1e6:,.0f} MB"
