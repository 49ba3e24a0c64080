"""The command line: printing and exiting happen here and nowhere else."""

from promad.cli.app import main

__all__ = ["main"]
