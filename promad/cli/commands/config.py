"""`promad config`."""

from promad.cli.output import print_lines
from promad.config.shipped import read_shipped_config


def config() -> None:
    """Print the shipped config.yaml: every key with its default and a comment.

    Start your own configuration from it: promad config > config.yaml.
    """
    print_lines([read_shipped_config().removesuffix("\n")])
