"""Rendering a template of this package to a page that needs no network and no other file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from promad.files import write_whole


def write_page(path: Path, template: str, **values: Any) -> None:
    """Write a page, plotly's script included. All values are escaped.

    Args:
        template: a file name in `templates`.
        values: what the template shows, by name.

    Raises:
        DataError: if the file cannot be written.
    """
    from plotly.offline import get_plotlyjs

    page = _create_environment().get_template(template)
    with write_whole(path) as aside, aside.open("w", encoding="utf-8") as file:
        file.writelines(page.generate(plotly_script=get_plotlyjs(), **values))


def _create_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("promad.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment
