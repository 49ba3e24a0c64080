"""`promad models`: the bundles that training left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promad.cli.commands.reload import run_reload
from promad.cli.options import load_one_config
from promad.cli.output import format_count, print_lines
from promad.config import Config
from promad.errors import BundleError

if TYPE_CHECKING:
    from promad.bundle import BundleStore

HELP = "List, show and switch trained bundles."

_RELOAD = "run promad reload, or send SIGHUP, to load it in a running daemon"

ReloadOption = Annotated[
    bool,
    typer.Option("--reload", metavar="", help="Let the running daemon load it; see promad reload."),
]


def list_models(context: typer.Context) -> None:
    """List all bundles, oldest first; * marks the current one.

    A bundle is the result of one training: model, scaler, threshold, plots and a manifest.
    """
    from promad.bundle import BundleStore

    print_lines(format_bundles(BundleStore.of(load_one_config(context))))


def show_model(
    context: typer.Context,
    bundle: Annotated[
        str | None,
        typer.Argument(metavar="BUNDLE", help="Name of a bundle (default: the current one)."),
    ] = None,
) -> None:
    """Show the manifest of a bundle as JSON: inputs, settings and results of its training."""
    from promad.bundle import BundleStore

    store = BundleStore.of(load_one_config(context))
    shown = store.open(bundle) if bundle else store.open_current()
    print_lines([shown.manifest.model_dump_json(indent=2)])


def promote_model(
    context: typer.Context,
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="Name of a bundle.")],
    reload: ReloadOption = False,
) -> None:
    """Make a bundle the current one, after verifying all of its files.

    A running daemon loads it with --reload, by promad reload or on SIGHUP.
    """
    from promad.bundle import BundleStore

    config = load_one_config(context)
    promoted = BundleStore.of(config).promote(bundle)
    _announce(config, f"{promoted.id} is now current", reload)


def roll_back_model(context: typer.Context, reload: ReloadOption = False) -> None:
    """Make the newest bundle that is older than the current one the current one.

    Nothing is deleted; use promote to return to the newer bundle. A running daemon loads the older
    bundle with --reload, by promad reload or on SIGHUP.
    """
    from promad.bundle import BundleStore

    config = load_one_config(context)
    bundle = BundleStore.of(config).rollback()
    _announce(config, f"rolled back to {bundle.id}", reload)


def _announce(config: Config, what: str, reload: bool) -> None:
    """Print what has changed, and let the running daemon follow if that is wanted."""
    print_lines([f"models: {what}" + ("" if reload else f"; {_RELOAD}")])
    if reload:
        run_reload([config])


def format_bundles(store: BundleStore) -> Iterator[str]:
    """A line for each bundle, oldest first, the current one marked."""
    current = store.current_id()
    for bundle_id in store.ids():
        mark = "*" if bundle_id == current else " "
        yield f"{mark} {bundle_id}  {_summarise(store, bundle_id)}"
    if current is None:
        yield f"no bundle in {store.root} — run promad train"


def _summarise(store: BundleStore, bundle_id: str) -> str:
    """What a bundle is, or what is wrong with it."""
    try:
        manifest = store.open(bundle_id).manifest
    except BundleError as error:
        return f"unusable: {error}"
    return (
        f"{manifest.model}, {format_count(len(manifest.queries), 'feature')}, "
        f"trained on {manifest.trained_on}, "
        f"validation loss {_format_figure(manifest.figures, 'validation_loss')}, "
        f"threshold {_format_figure(manifest.threshold, 'value')}"
    )


def _format_figure(figures: Mapping[str, Any], name: str) -> str:
    """A number of a manifest; these are only shown, so one may be missing."""
    value = figures.get(name)
    return f"{value:.4g}" if isinstance(value, int | float) else "unknown"


COMMANDS: Mapping[str, Callable[..., None]] = {
    "list": list_models,
    "show": show_model,
    "promote": promote_model,
    "rollback": roll_back_model,
}
