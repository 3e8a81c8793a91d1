"""`puma cache`: the vectors that are kept between commands."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from puma_cli.cli import encoding_options, options
from puma_cli.cli.help_page import Command
from puma_cli.cli.output import Outcome, Table
from puma_cli.cli.session import session
from puma_cli.errors import ConfigError

if TYPE_CHECKING:
    from puma_cli.encoding.listing import Store

app = typer.Typer(
    help="See and clear the vectors that are kept.\n\nExample: puma cache list",
    no_args_is_help=True,
    rich_markup_mode=None,
    name="cache",
)


@app.command("list", cls=Command)
def list_(
    ctx: typer.Context,
    cache_dir: encoding_options.CacheDir = None,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """List the models whose vectors are kept.

    Example: puma cache list
    """
    with session(ctx) as run:
        from puma_cli.encoding.cache_folder import cache_folder
        from puma_cli.encoding.listing import list_stores

        place = cache_folder(cache_dir)
        stores = list_stores(place)
        run.finish(
            Outcome(
                value="\n".join(str(store.folder) for store in stores),
                payload={"cache": str(place), "stores": [_plain(store) for store in stores]},
                body=(_table(stores, f"Vectors in {place}"),)
                if stores
                else (f"No vectors are kept in {place}.",),
                next_command="puma cache clear" if stores else "",
            )
        )


@app.command(cls=Command)
def clear(
    ctx: typer.Context,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="SPAN", help="Only what was not used for such a time: 30d, 12h."),
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="GLOB", help="Only of models of such a name.")
    ] = "*",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    cache_dir: encoding_options.CacheDir = None,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Remove vectors that are kept; they can be computed again.

    Example: puma cache clear --older-than 30d
    """
    with session(ctx) as run:
        from puma_cli.encoding.cache_folder import cache_folder
        from puma_cli.encoding.listing import choose, forget_hashes, list_stores
        from puma_cli.encoding.listing import clear as clear_stores
        from puma_cli.report.numbers import size_on_disk

        place = cache_folder(cache_dir)
        stores = choose(list_stores(place), older_than, model)
        size = sum(store.bytes for store in stores)
        if stores and not yes:
            _ask(run.output.talk, stores, size_on_disk(size), str(place))
        clear_stores(stores)
        if older_than is None and model == "*":
            forget_hashes(place)
        run.finish(
            Outcome(
                value=str(size),
                payload={
                    "cache": str(place),
                    "removed": [_plain(store) for store in stores],
                    "bytes": size,
                },
                body=(f"{len(stores)} removed, {size_on_disk(size)} freed in {place}.",),
            )
        )


def _ask(talk: Any, stores: list[Store], size: str, place: str) -> None:
    if not sys.stdin.isatty():
        raise ConfigError(
            f"{len(stores)} stores of {size} in {place} would be removed.",
            cause="There is nobody to ask.",
            hint="Say --yes.",
        )
    names = ", ".join(dict.fromkeys(store.model for store in stores))
    talk(f"{size} of vectors in {place}, made by {names}.")
    typer.confirm("Remove them?", abort=True, err=True)


def _plain(store: Store) -> dict[str, Any]:
    return {**asdict(store), "folder": str(store.folder)}


def _table(stores: list[Store], title: str) -> Table:
    from puma_cli.report.numbers import size_on_disk

    rows = [
        (
            store.model,
            store.kind,
            store.dtype,
            f"{store.rows:,}",
            str(store.dimension),
            size_on_disk(store.bytes),
            _age(store.age),
        )
        for store in stores
    ]
    columns = ("model", "kind", "computed in", "vectors", "numbers each", "size", "last used")
    return Table(columns, rows, title=title)


def _age(seconds: float) -> str:
    for name, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {name} ago"
    return "now"
