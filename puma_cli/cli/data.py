"""`puma data`: data sets that puma can make, and whether one is whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import puma_cli
from puma_cli.checkpoint.kinds import DATA, MINED, tell_kind
from puma_cli.cli import options
from puma_cli.cli.help_page import Command
from puma_cli.cli.naming import puma
from puma_cli.cli.output import Outcome, Table
from puma_cli.cli.session import session
from puma_cli.errors import ConfigError

if TYPE_CHECKING:
    from puma_cli.data.check.report import CheckReport

app = typer.Typer(
    help="Make data sets, and check them.\n\nExample: puma data check scenes",
    no_args_is_help=True,
    rich_markup_mode=None,
    name="data",
)


@app.callback()
def _group() -> None:
    pass


@app.command(cls=Command)
def scenes(
    ctx: typer.Context,
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "-o", metavar="DIR", help="Folder for the data set.")
    ],
    train_scenes: Annotated[
        int, typer.Option(metavar="N", help="Training scenes, one query a task each.", min=1)
    ] = 10_000,
    test_targets: Annotated[
        int, typer.Option(metavar="N", help="Test queries a task.", min=1)
    ] = 200,
    val_targets: Annotated[
        int, typer.Option(metavar="N", help="Validation queries a task.", min=1)
    ] = 60,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the drawing.", min=0)] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a data set that is already there.")
    ] = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Draw `scenes`, a benchmark of eight retrieval tasks.

    Its pictures are of coloured shapes, with captions and edits.

    Example: puma data scenes --output-dir scenes
    """
    with session(ctx) as run:
        folder = puma_cli.make_scenes(
            output_dir,
            seed=seed,
            train_scenes=train_scenes,
            test_targets=test_targets,
            val_targets=val_targets,
            overwrite=overwrite,
            reporter=run.reporter,
        )
        run.finish(
            Outcome(
                value=str(folder),
                payload={"output_dir": str(folder), "seed": seed},
                body=(f"Data set: {folder}",),
                next_command=puma("analyze", "puma-mini", "--data", folder),
            )
        )


@app.command(cls=Command)
def check(
    ctx: typer.Context,
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="M-BEIR's layout, MMEB's, or tables of pairs.")
    ],
    decode: Annotated[
        bool, typer.Option("--decode", help="Read every image to its last pixel, not its header.")
    ] = False,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Do not look for images at all.")
    ] = False,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="PATH", help="Images of MMEB or pairs, if elsewhere."),
    ] = None,
    faults: Annotated[
        int, typer.Option("--faults", metavar="N", help="List so many faults; all count.", min=0)
    ] = 100,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Check every file, line, id, image and qrel of DATA.

    Every fault is named with its file and line, and ends with exit code 1.

    Example: puma data check scenes
    """
    with session(ctx) as run:
        if decode and no_images:
            raise ConfigError("--decode and --no-images are both given.", hint="Leave one out.")
        look = "decoded" if decode else "not" if no_images else "headers"
        report = puma_cli.check_data(
            data, look=look, limit=faults, images=images, reporter=run.reporter
        )
        run.finish(
            Outcome(
                value=str(report.total),
                payload=report.to_json(),
                body=(*_tables(report), _verdict(report)),
                next_command=_following(data, report),
            )
        )
        if report.total:
            raise typer.Exit(1)


def _following(data: Path, report: CheckReport) -> str:
    if report.total:
        return ""
    if tell_kind(data) in (DATA, MINED):
        return puma("analyze", "MODEL", "--data", data)
    return puma("distill", "STUDENT", "--teacher", "MODEL", "--data", data, "-o", "student")


def _tables(report: CheckReport) -> list[Table | str]:
    tasks = [
        (each.split, each.task, *(str(number) for number in each[2:])) for each in report.tasks
    ]
    files = [(each.file, str(each.rows), str(each.faults)) for each in report.files]
    columns = ("split", "task", "queries", "candidates", "qrels", "images")
    parts: list[Table | str] = [
        Table(columns, tasks, title=report.root),
        Table(("file", "rows", "faults"), files),
    ]
    if report.kinds:
        kinds = [(kind, str(count)) for kind, count in sorted(report.kinds.items())]
        parts.append(Table(("fault", "how often"), kinds))
    parts += [f"{fault.where}: {fault.problem}" for fault in report.faults]
    return parts


def _verdict(report: CheckReport) -> str:
    looked = {"decoded": "read whole", "headers": "their headers read", "not": "not looked at"}
    images = f"{report.images} images, {looked[report.looked]}"
    if not report.total:
        return f"No fault. {images}."
    more = report.total - len(report.faults)
    listed = f", {more} of them not listed (--faults {report.total})" if more else ""
    faults = "1 fault" if report.total == 1 else f"{report.total} faults"
    return f"{faults}{listed}. {images}."
