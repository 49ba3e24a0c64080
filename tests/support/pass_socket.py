"""`python -m tests.support.pass_socket PORT COMMAND`: a command with a socket, as from systemd."""

from __future__ import annotations

import os
import socket
import sys


def main() -> None:
    """Listen on loopback, and become the command."""
    port, *command = sys.argv[1:]
    with socket.create_server(("127.0.0.1", int(port))) as listening:
        os.dup2(listening.fileno(), 3)
        os.set_inheritable(3, True)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="promad")
        os.execvp(command[0], command)


if __name__ == "__main__":
    main()
