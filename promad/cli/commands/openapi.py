"""`promad openapi`."""

from promad.cli.output import print_lines


def openapi() -> None:
    """Print the OpenAPI description of the REST API, as served at /openapi.json."""
    from promad.web.app import description

    print_lines([description()])
