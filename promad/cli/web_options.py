"""What `promad detect` takes about its port and its life, as Prometheus and its exporters do."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from pydantic import TypeAdapter, ValidationError

from promad.cli.options import parse_listen_address
from promad.cli.output import format_url
from promad.config import parse_duration
from promad.config.values import PeerUrl, ServerUrl

if TYPE_CHECKING:
    from promad.detection.reloading import Reload
    from promad.web.serving import WebOptions

WebConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--web.config.file",
        metavar="FILE",
        help="TLS, passwords and headers of the port: a web configuration file as of Prometheus.",
    ),
]
OpenProbesOption = Annotated[
    bool,
    typer.Option(
        "--web.open-probes",
        metavar="",
        help="Answer /-/healthy and /-/ready without a password.",
    ),
]
ExternalUrlOption = Annotated[
    str | None,
    typer.Option(
        "--web.external-url",
        metavar="URL",
        help="URL of this daemon for browsers (default: web.external_url).",
    ),
]
RoutePrefixOption = Annotated[
    str | None,
    typer.Option(
        "--web.route-prefix",
        metavar="PATH",
        help="Serve everything below this path (default: the path of --web.external-url).",
    ),
]
PeersOption = Annotated[
    str | None,
    typer.Option(
        "--web.peers",
        metavar="URLS",
        help="With --shard, URLs of the daemons of all shards, separated by commas; each page "
        "shows all of them (default: web.peers).",
    ),
]
LifecycleOption = Annotated[
    bool,
    typer.Option("--web.enable-lifecycle", metavar="", help="Reload on POST and PUT /-/reload."),
]
RemoteWriteOption = Annotated[
    bool,
    typer.Option(
        "--web.enable-remote-write-receiver",
        metavar="",
        help="Take samples by remote write at /api/v1/write, and do not poll.",
    ),
]
SystemdSocketOption = Annotated[
    bool,
    typer.Option("--web.systemd-socket", metavar="", help="Use the socket that systemd passes."),
]
AutoReloadOption = Annotated[
    str | None,
    typer.Option(
        "--config.auto-reload-interval",
        metavar="DURATION",
        help="Reload when the content of the configuration or the current bundle has changed; "
        "look in this interval (default: never).",
    ),
]

_PREFIX = re.compile(r"[A-Za-z0-9._~/-]*")
_SHORTEST_INTERVAL_SECONDS = 1.0


@dataclass(frozen=True)
class Port:
    """How the command line wants the port to be served.

    Attributes:
        host: the interface to listen on; empty means every one.
        number: None for the first configuration's `exporter_port`.
        route_prefix: such as `/promad`, or empty.
        receives: whether samples come by remote write, and are not polled.
    """

    host: str = ""
    number: int | None = None
    config_file: Path | None = None
    open_probes: bool = False
    route_prefix: str = ""
    enable_lifecycle: bool = False
    systemd_socket: bool = False
    receives: bool = False

    @staticmethod
    def parse(
        listen_address: str | None,
        route_prefix: str,
        *,
        web_config: Path | None,
        open_probes: bool,
        enable_lifecycle: bool,
        systemd_socket: bool,
        receives: bool = False,
    ) -> Port:
        """What the options of a command mean together."""
        if systemd_socket and listen_address is not None:
            raise typer.BadParameter("--web.systemd-socket excludes --web.listen-address; use one")
        return Port(
            *parse_listen_address(listen_address),
            web_config,
            open_probes,
            route_prefix,
            enable_lifecycle,
            systemd_socket,
            receives,
        )

    def make_options(self, ask_reload: Callable[[], Reload]) -> WebOptions:
        """What the stage takes.

        Raises:
            PromadError: if systemd was to pass a socket, and did not.
        """
        from promad.http_server.systemd_socket import take_systemd_socket
        from promad.web.serving import WebOptions

        return WebOptions(
            self.config_file,
            self.open_probes,
            self.route_prefix,
            take_systemd_socket(os.environ) if self.systemd_socket else None,
            ask_reload if self.enable_lifecycle else None,
            self.receives,
        )

    def format_url(self, number: int, secure: bool) -> str:
        """The address for a browser."""
        return format_url(self.host, number, self.route_prefix, secure=secure)


def parse_external_url(url: str | None) -> str | None:
    """The URL without a slash at its end."""
    return parse_server_url(url, "--web.external-url")


def parse_peers(urls: str | None) -> tuple[str, ...] | None:
    """The URLs in a list with commas, each without a slash at its end."""
    if urls is None:
        return None
    try:
        return tuple(TypeAdapter(list[PeerUrl]).validate_python(urls.split(",")))
    except ValidationError as error:
        first = error.errors()[0]  # the URL may hold a password
        what = first["msg"].removeprefix("Value error, ")
        raise typer.BadParameter(f"--web.peers: URL {int(first['loc'][0]) + 1}: {what}") from None


def parse_server_url(url: str | None, option: str) -> str | None:
    """The URL in an option, without a slash at its end."""
    if url is None:
        return None
    try:
        return TypeAdapter(ServerUrl).validate_python(url)
    except ValidationError as error:
        what = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise typer.BadParameter(f"{option} {url}: {what}") from None


def parse_route_prefix(prefix: str | None, external_url: str | None) -> str:
    """`/promad` of `promad`, `/promad/`, or of the path of the external URL; empty of `/`.

    >>> parse_route_prefix("promad/", None), parse_route_prefix("/", "http://a/b")
    ('/promad', '')
    >>> parse_route_prefix(None, "http://a/b"), parse_route_prefix(None, None)
    ('/b', '')
    """
    path = urlsplit(external_url or "").path if prefix is None else prefix
    if not _PREFIX.fullmatch(path) or "//" in path or {".", ".."} & set(path.split("/")):
        raise typer.BadParameter(f"invalid path {path}; write --web.route-prefix /PATH")
    return f"/{stripped}" if (stripped := path.strip("/")) else ""


def parse_reload_interval(text: str | None) -> float | None:
    """Seconds; None for never."""
    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"--config.auto-reload-interval {text}: {error}") from None
    if 0 < seconds < _SHORTEST_INTERVAL_SECONDS:
        raise typer.BadParameter(f"--config.auto-reload-interval {text}: write 1s or more")
    return seconds or None
