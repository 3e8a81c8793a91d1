"""The options that several commands share, each declared once.

All default to None, which means "not given": the settings' own defaults apply after `--config` and
`--set` have had their say, and the help texts name them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="A folder, `puma-mini`, or a hub id such as org/name@revision.",
        show_default=False,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Data set in the M-BEIR layout."),
]
Tasks = Annotated[
    str | None,
    typer.Option("--tasks", metavar="GLOB", help="Only tasks of such a name.  [default: *]"),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", metavar="N", help="At most N queries a task; the result is marked partial."
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", metavar="N", help="Inputs encoded at once.  [default: 128]"),
]
Device = Annotated[
    str | None,
    typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps.  [default: auto]"),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype", metavar="NAME", help="auto, float32, float16, bfloat16.  [default: auto]"
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="Seed of everything drawn by chance.  [default: 0]"),
]
Overwrite = Annotated[
    bool | None,
    typer.Option("--overwrite", help="Replace a result that is already there."),
]
FullHash = Annotated[
    bool | None,
    typer.Option("--full-hash", help="Hash every byte of model and data, not a sample."),
]
Config = Annotated[
    str | None,
    typer.Option("--config", metavar="NAME|FILE", help="A recipe's name, or a YAML file."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="One setting, over --config; may be repeated."
    ),
]
PrintConfig = Annotated[
    bool,
    typer.Option("--print-config", help="Print all settings as a file for --config, and stop."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only the result's path or value.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


def split(default: str) -> typer.models.OptionInfo:
    """Return the option `--split`, whose default differs between commands."""
    return _option(
        typer.Option("--split", metavar="NAME", help=f"val or test.  [default: {default}]")
    )


def output_dir(default: str = "") -> typer.models.OptionInfo:
    """Return the option `--output-dir`; `default` says in words which folder is taken otherwise."""
    shown = f"  [default: {default}]" if default else ""
    return _option(
        typer.Option("--output-dir", "-o", metavar="DIR", help=f"Folder for the result.{shown}")
    )


def _option(info: object) -> typer.models.OptionInfo:
    # typer.Option is declared to return Any, so that it can stand as a default value.
    assert isinstance(info, typer.models.OptionInfo)
    return info
