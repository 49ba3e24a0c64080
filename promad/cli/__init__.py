"""The command line: printing and exiting happen here and nowhere else."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import NoReturn, cast

__all__ = ["main"]


def main() -> NoReturn:
    """Run a command; an error is one line on standard error and an exit code."""
    _import_structlog()
    from promad.cli import app

    app.main()


def _import_structlog() -> None:
    """Import it without rich, with which it could colour lines that promad never colours."""
    if "rich" not in sys.modules:
        sys.modules["rich"] = cast(ModuleType, None)  # which makes imports of it fail
        try:
            importlib.import_module("structlog")
        finally:
            del sys.modules["rich"]
