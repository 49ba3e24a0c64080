"""What `promad detect` takes about its port, as Prometheus and its exporters do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from promad.stages.detect import WebOptions

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


@dataclass(frozen=True)
class Port:
    """How the command line wants the port to be served.

    Attributes:
        host: the interface to listen on; empty means every one.
        number: None for the first configuration's `exporter_port`.
    """

    host: str = ""
    number: int | None = None
    config_file: Path | None = None
    open_probes: bool = False

    def make_options(self) -> WebOptions:
        """What the stage takes."""
        from promad.stages.detect import WebOptions

        return WebOptions(self.config_file, self.open_probes)
