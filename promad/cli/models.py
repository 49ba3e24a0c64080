"""Commands about the bundles that training left: list, show, promote, rollback."""

from __future__ import annotations

from typing import Annotated

import typer

from promad.cli import reports, running
from promad.cli.options import config_of

models = typer.Typer(
    help="List, show and change the bundles that training left.", no_args_is_help=True
)


@models.command("list")
def list_models(context: typer.Context) -> None:
    """Every bundle, oldest first; the one in use has a star.

    A bundle is what one training left: model, scaler, threshold, plots and a manifest.
    """
    from promad.bundle import BundleStore

    running.say(reports.bundle_lines(BundleStore.of(config_of(context))))


@models.command("show")
def show_model(
    context: typer.Context,
    bundle: Annotated[
        str | None, typer.Argument(help="Its name; the one in use if left out.")
    ] = None,
) -> None:
    """What a bundle was made from and what came of it, as JSON."""
    from promad.bundle import BundleStore

    store = BundleStore.of(config_of(context))
    shown = store.open(bundle) if bundle else store.open_current()
    print(shown.manifest.model_dump_json(indent=2))


@models.command("promote")
def promote_model(
    context: typer.Context, bundle: Annotated[str, typer.Argument(help="Its name.")]
) -> None:
    """Make a bundle the one in use, once every file of it has passed its check.

    A running daemon takes it at its next start.
    """
    from promad.bundle import BundleStore

    promoted = BundleStore.of(config_of(context)).promote(bundle)
    running.say([f"models: {promoted.id} is in use"])


@models.command("rollback")
def roll_back_model(context: typer.Context) -> None:
    """Go back to the newest bundle that is older than the one in use.

    Nothing is deleted: promote brings the newer one back.
    """
    from promad.bundle import BundleStore

    bundle = BundleStore.of(config_of(context)).rollback()
    running.say([f"models: back to {bundle.id}"])
