"""The command line's entry: the commands, the version, usage errors and exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from puma_cli.cli import (
    analyze,
    bench,
    cache,
    compare,
    data,
    demo,
    distill,
    doctor,
    embed,
    evaluate,
    export,
    info,
    mine,
    prune,
    recipes,
    search,
)
from puma_cli.cli.help_page import Command, Group, text_and_example
from puma_cli.cli.messages import DONE, FAILED, INTERRUPTED, USAGE, explain
from puma_cli.cli.output import complain
from puma_cli.config.suggestion import did_you_mean
from puma_cli.processes import end_process
from puma_cli.version import __version__

app = typer.Typer(
    name="puma",
    help="Cut multimodal retrievers to fewer decoder layers and teach them back what they lost.\n\n"
    "Start with `puma demo`; `puma COMMAND --help` has the options of a command, and an example.",
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
START, MAKE = "Start here", "Make a smaller model"
MEASURE, USE, KEEP = "Measure it", "Put it to work", "Settings and what is kept"
app.command("demo", cls=Command, rich_help_panel=START)(demo.demo)
app.command("doctor", cls=Command, rich_help_panel=START)(doctor.doctor)
app.command("info", cls=Command, rich_help_panel=START)(info.info)
app.add_typer(data.app, name="data", cls=Group, rich_help_panel=START)
app.command("analyze", cls=Command, rich_help_panel=MAKE)(analyze.analyze)
app.command("prune", cls=Command, rich_help_panel=MAKE)(prune.prune)
app.command("mine", cls=Command, rich_help_panel=MAKE)(mine.mine)
app.command("distill", cls=Command, rich_help_panel=MAKE)(distill.distill)
app.command("eval", cls=Command, rich_help_panel=MEASURE)(evaluate.evaluate)
app.command("compare", cls=Command, rich_help_panel=MEASURE)(compare.compare)
app.command("bench", cls=Command, rich_help_panel=MEASURE)(bench.bench)
app.command("embed", cls=Command, rich_help_panel=USE)(embed.embed)
app.command("search", cls=Command, rich_help_panel=USE)(search.search)
app.command("export", cls=Command, rich_help_panel=USE)(export.export)
app.add_typer(recipes.app, name="recipes", cls=Group, rich_help_panel=KEEP)
app.add_typer(cache.app, name="cache", cls=Group, rich_help_panel=KEEP)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"puma {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line with `args`, by default the process's own, and exit with its code."""
    end_process(run(sys.argv[1:] if args is None else args))


def run(args: Sequence[str]) -> int:
    """Run the command line with `args` and return the exit code."""
    try:
        code = app(args=list(args), prog_name="puma", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        return _pipe_closed()
    except SystemExit as error:
        # Typer itself meets a closed pipe with an exit.
        code = error.code
        if code == 1:
            return _pipe_closed()
    except KeyboardInterrupt:
        complain("Error: Interrupted")
        return INTERRUPTED
    except Exception as error:
        if "--debug" in args and not _is_usage(error):
            traceback.print_exc()
        return _usage(error) if _is_usage(error) else _fault(error)
    return code if isinstance(code, int) else DONE


def _is_usage(error: Exception) -> bool:
    return getattr(error, "exit_code", None) == USAGE and hasattr(error, "format_message")


def _usage(error: Any) -> int:
    """Print a usage error; a bare `puma` or `puma data` gets the help it lacks."""
    text = error.format_message()
    if text.startswith("Usage:"):
        complain(text)
        return USAGE
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "puma"
    lines = [f"Error: {text}"]
    if context is not None and hasattr(error, "possibilities"):
        known = [name for param in context.command.get_params(context) for name in param.opts]
        near = did_you_mean(error.option_name, known)
        lines = [
            f"Error: There is no option {error.option_name}.",
            *([f"  {near}"] if near else []),
        ]
    elif context is not None and text.startswith("Missing"):
        example = text_and_example(context.command.help or "")[1]
        lines += [f"  For example: {example}"] if example else []
    complain("\n".join([*lines, f"  `{path} --help` lists what there is."]))
    return USAGE


def _fault(error: Exception) -> int:
    message = explain(error)
    complain(str(message))
    return message.exit_code


def _pipe_closed() -> int:
    """End quietly when the reader of standard output is gone, as after `| head`."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())
    return FAILED
