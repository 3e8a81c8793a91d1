"""`puma search`: ask an index that `puma embed` wrote."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import puma_cli
from puma_cli.cli import encoding_options, options
from puma_cli.cli.naming import puma
from puma_cli.cli.output import Outcome, Table
from puma_cli.cli.session import Session, session
from puma_cli.errors import ConfigError, PumaError

if TYPE_CHECKING:
    from puma_cli.config.index_settings import SearchSettings
    from puma_cli.embedding.rows import Item
    from puma_cli.searching.found import Answer, Hit
    from puma_cli.searching.searcher import Searcher

# Characters of a text that a table shows.
_SHOWN = 100
# How an image is named at the prompt.
_AT = "@"


def search(
    ctx: typer.Context,
    model: options.Model = None,
    text: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT]...",
            help="Queries; without any, and without --image or --queries, a prompt asks for them.",
            show_default=False,
        ),
    ] = None,
    index: Annotated[
        Path | None, typer.Option("--index", metavar="DIR", help="What `puma embed` wrote.")
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="An image to ask with, alone or with a text."),
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Queries: text lines, a .jsonl, .csv or .parquet table, or -."
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option("--top-k", "-k", metavar="N", help="Results of a query.  [default: 10]"),
    ] = None,
    instruction: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What is asked.  [default: the model's own]"),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the results as a page with their pictures."),
    ] = None,
    approximate: Annotated[
        bool | None,
        typer.Option(
            "--approximate", help="Use faiss's or LanceDB's own index; its recall is stated."
        ),
    ] = None,
    any_space: Annotated[
        bool | None,
        typer.Option("--any-space", help="Ask a model that shares no space, as far as is known."),
    ] = None,
    verify: Annotated[
        bool | None,
        typer.Option("--verify", help="Read every byte of a large index to see if it is whole."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", metavar="N", help="Most queries at once.  [default: 128]"),
    ] = None,
    attention: encoding_options.Attention = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a page that is already there.")
    ] = False,
    config: options.Config = None,
    overrides: options.Overrides = None,
    print_config: options.PrintConfig = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Find what is nearest to a text or an image in an index.

    MODEL is the one that made the index, or a student of it. Results are exact unless
    --approximate is given.

    Example: puma search puma-mini --index index "a red square"
    """
    with session(ctx) as run:
        settings = run.settings(puma_cli.SearchSettings)
        # What cannot be asked is said before a model is opened.
        asked = _queries(text or [], image, queries)
        talk = asked is None
        if html is not None:
            from puma_cli.report.search_page import check_page

            check_page(html, overwrite)
        if talk and not sys.stdin.isatty():
            raise ConfigError(
                "There is no query.",
                hint="Give a text, --image FILE or --queries FILE; from a pipe: --queries -",
            )
        searcher = puma_cli.open_searcher(settings, run.reporter)
        if talk:
            _converse(run, searcher, html)
            return
        assert asked is not None
        answers = list(searcher.answers(asked))
        if not answers:
            raise ConfigError(
                f"`{queries}` holds no query.", hint="Write one a line, or name another file."
            )
        page = _write_page(searcher, answers, html)
        run.finish(_outcome(searcher, answers, page, _again(settings, text or [], image)))


def _queries(texts: list[str], image: Path | None, file: str | None) -> Iterator[Item] | None:
    """Return the queries that were given, or None if there is none."""
    from puma_cli.searching.searcher import query_row

    if file is not None:
        from puma_cli.embedding.sources import sources_of, stream

        if texts or image is not None:
            raise ConfigError(
                "--queries and another query are both given.", hint="Ask one or the other."
            )
        return stream(sources_of([file]))
    if image is not None and not image.is_file():
        raise ConfigError(
            f"The image {image} does not exist.", hint="Check the path; --image takes one file."
        )
    if not texts and image is None:
        return None
    return iter([query_row(text, image, str(n)) for n, text in enumerate(texts or [""], start=1)])


def _converse(run: Session, searcher: Searcher, html: Path | None) -> None:
    """Answer what is typed until it is an empty line; the model stays open."""
    from puma_cli.searching.searcher import query_row

    run.close()
    for remark in searcher.remarks:
        run.output.talk(remark)
    run.output.talk(
        f"{len(searcher.index):,} vectors. Type a text, {_AT}FILE for an image, or both as "
        f"{_AT}FILE TEXT; an empty line ends."
    )
    number = 0
    while line := _line():
        number += 1
        image, text = None, line
        if line.startswith(_AT):
            name, _, text = line[len(_AT) :].partition(" ")
            image = Path(name).expanduser()
        try:
            answers = searcher.search([query_row(text, image, str(number))])
            page = _write_page(searcher, answers, html)
        except PumaError as error:
            # A slip at the prompt does not close the model.
            run.output.talk(str(run.explain(error)))
            continue
        run.output.emit(_outcome(searcher, answers, page))


def _line() -> str:
    try:
        # On standard error: what is read from standard output is results alone.
        sys.stderr.write("query> ")
        sys.stderr.flush()
        return sys.stdin.readline().strip()
    except UnicodeDecodeError:
        return ""


def _write_page(searcher: Searcher, answers: list[Answer], path: Path | None) -> Path | None:
    if path is not None:
        from puma_cli.report.search_page import write_search_page

        write_search_page(path, searcher.description, answers, searcher.remarks)
    return path


def _again(settings: SearchSettings, texts: list[str], image: Path | None) -> str:
    """Return the command that also makes a page of the results."""
    asked = ["--image", image] if image is not None else []
    words = [settings.model, *texts, "--index", settings.index, *asked]
    if not texts and image is None:
        return ""
    return puma("search", *words, "--html", "found.html")


def _outcome(
    searcher: Searcher, answers: list[Answer], page: Path | None, again: str = ""
) -> Outcome:
    about = searcher.description
    several = len(answers) > 1
    tables = [_table(answer, several) for answer in answers]
    remarks = list(searcher.remarks)
    return Outcome(
        value="\n".join(hit.row.id for answer in answers for hit in answer.hits),
        payload={
            "model_of_index": about.model,
            "vectors": len(searcher.index),
            "space": searcher.space,
            "exact": not searcher.index.approximate,
            "remarks": remarks,
            "page": None if page is None else str(page),
            "answers": [answer.as_plain() for answer in answers],
        },
        body=(*tables, *remarks, *([f"Page: {page}"] if page else [])),
        next_command="" if page else again,
    )


def _table(answer: Answer, several: bool) -> Table:
    shows = [
        name
        for name in ("text", "image")
        if any(getattr(hit.row, name) is not None for hit in answer.hits)
    ]
    return Table(
        ("", "score", "id", *shows),
        [_cells(hit, shows) for hit in answer.hits],
        title=_title(answer.query.text, answer.query.image, answer.query.id if several else ""),
    )


def _cells(hit: Hit, shows: list[str]) -> list[str]:
    cells: dict[str, Any] = {"text": _short(hit.row.text or ""), "image": ""}
    if hit.row.image is not None:
        cells["image"] = _near(hit.row.image)
    return [str(hit.rank), f"{hit.score:.4f}", hit.row.id, *(cells[name] for name in shows)]


def _title(text: str | None, image: Path | None, name: str) -> str:
    asked = ", ".join([*([_near(image)] if image else []), *([_short(text)] if text else [])])
    return f"{name}: {asked}" if name else asked


def _near(path: Path) -> str:
    """Return a path as it is typed from here, if that is shorter."""
    from puma_cli.embedding.rows import readable, shown_path

    shown = shown_path(path)
    here = readable(str(Path.cwd())) + "/"
    return shown.removeprefix(here)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1].rstrip() + "…"
