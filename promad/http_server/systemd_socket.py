"""A socket that systemd listens on, and passes on (socket activation)."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from promad.errors import PromadError

FIRST_DESCRIPTOR = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def take_systemd_socket(environment: MutableMapping[str, str]) -> socket.socket:
    """The listening TCP socket that was passed; its variables are removed, for child processes.

    Raises:
        PromadError: if there is none, or several, or it is not one for TCP.
    """
    process, count, _ = [environment.pop(name, "") for name in _VARIABLES]
    if process != str(os.getpid()) or not count.isdigit() or int(count) < 1:
        raise PromadError(
            "--web.systemd-socket: systemd has passed no socket — start promad by a .socket unit"
        )
    if int(count) > 1:
        raise PromadError(
            f"--web.systemd-socket: systemd has passed {count} sockets — keep one ListenStream"
        )
    passed = _open(FIRST_DESCRIPTOR)
    passed.set_inheritable(False)
    if (
        passed.family not in {socket.AF_INET, socket.AF_INET6}
        or passed.type != socket.SOCK_STREAM
        or not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        passed.close()
        raise PromadError(
            "--web.systemd-socket: not a listening TCP socket — write ListenStream=[HOST]:PORT, "
            "and Accept=no"
        )
    return passed


def _open(descriptor: int) -> socket.socket:
    try:
        return socket.socket(fileno=descriptor)
    except OSError as error:
        raise PromadError(
            f"--web.systemd-socket: descriptor {descriptor} is no socket ({error.strerror}) — "
            "start promad by a .socket unit"
        ) from None
