"""`puma recipes`: the settings files that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from puma_cli.cli import options
from puma_cli.cli.help_page import Command
from puma_cli.cli.naming import puma
from puma_cli.cli.output import Outcome, Table
from puma_cli.cli.session import session
from puma_cli.errors import OutputError

app = typer.Typer(
    help="List, show and copy the recipes that --config takes by name.\n\n"
    "Example: puma recipes copy default mine.yaml",
    no_args_is_help=True,
    rich_markup_mode=None,
    name="recipes",
)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="A recipe's name.", show_default=False)]


@app.command("ls", cls=Command, hidden=True)
@app.command("list", cls=Command)
def list_all(
    ctx: typer.Context,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """List the recipes, with what each is for.

    Example: puma recipes list
    """
    with session(ctx) as run:
        from puma_cli.config.recipe import list_recipes

        found = list_recipes()
        run.finish(
            Outcome(
                value="\n".join(recipe.name for recipe in found),
                payload={
                    "recipes": [
                        {
                            "name": recipe.name,
                            "command": recipe.command,
                            "title": recipe.title,
                            "usage": recipe.usage,
                        }
                        for recipe in found
                    ]
                },
                body=(
                    Table(
                        columns=("recipe", "command", "what for"),
                        rows=[(recipe.name, recipe.command, recipe.title) for recipe in found],
                    ),
                ),
                next_command=puma("recipes", "show", "default"),
            )
        )


@app.command(cls=Command)
def show(
    ctx: typer.Context,
    name: _Name,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Print a recipe, with its comments.

    Example: puma recipes show default
    """
    with session(ctx) as run:
        from puma_cli.config.recipe import find_recipe, read_config

        recipe = find_recipe(name)
        run.finish(
            Outcome(
                value=recipe.text,
                payload={"name": name, "settings": read_config(name)},
                body=(recipe.text.rstrip("\n"),),
                next_command=puma("recipes", "copy", name),
            )
        )


@app.command("cp", cls=Command, hidden=True)
@app.command(cls=Command)
def copy(
    ctx: typer.Context,
    name: _Name,
    target: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Where to.  [default: NAME.yaml]"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is already there.")
    ] = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Copy a recipe to a file of your own, to change it.

    Example: puma recipes copy default mine.yaml
    """
    with session(ctx) as run:
        from puma_cli.checkpoint.output_folder import write_text
        from puma_cli.config.recipe import find_recipe

        recipe = find_recipe(name)
        path = Path(f"{name}.yaml") if target is None else target
        path = path / f"{name}.yaml" if path.is_dir() else path
        if path.exists() and not overwrite:
            raise OutputError(
                f"The file `{path}` is already there.",
                hint="Choose another name, or replace it with --overwrite.",
            )
        if not path.parent.is_dir():
            raise OutputError(
                f"The folder `{path.parent}` does not exist.",
                hint="Make it first, or choose another place.",
            )
        write_text(path, recipe.text)
        run.finish(
            Outcome(
                value=str(path),
                payload={"file": str(path)},
                body=(f"Recipe: {path}",),
                next_command=f"puma {recipe.command} ... --config {path}",
            )
        )
