"""The report of a demonstration: scores, figures and retrieved examples on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from puma_cli.checkpoint.output_folder import write_text
from puma_cli.report.gallery import Example, gallery
from puma_cli.report.numbers import count, share, size_on_disk
from puma_cli.report.page import Drawing, card, code, figure, heading, page, paragraph, table


@dataclass(frozen=True)
class ScoreRow:
    """One model in the table of scores.

    Args:
        name: how it is called on the page, such as `student`.
        layers: decoder layers.
        scores: mean over tasks of each metric, such as `hit@1`, in [0, 1].
        parameters: number of parameters.
        latency: milliseconds a query.
        disk: bytes of the folder.
    """

    name: str
    layers: int
    scores: dict[str, float]
    parameters: int
    latency: float
    disk: int


@dataclass(frozen=True)
class DemoPage:
    """Everything the page shows.

    Args:
        title: plain text.
        subtitle: plain text.
        headline: the result in one sentence.
        summary: a few sentences, each its own paragraph.
        rows: the models, the reference first.
        marked: index of the row to stand out, or None.
        score_note: small print below the table: pool, split, interval, machine.
        figures: (heading, figure) in order.
        examples: retrieved examples.
        example_note: how they were chosen, plain text.
        commands: what was run, one command a line, to be typed again.
        next_command: what to type next.
        metrics: the metrics shown.
        footer: plain text.
    """

    title: str
    subtitle: str
    headline: str
    summary: Sequence[str]
    rows: Sequence[ScoreRow]
    marked: int | None = None
    score_note: str = ""
    figures: Sequence[tuple[str, Drawing]] = ()
    examples: Sequence[Example] = ()
    example_note: str = ""
    commands: Sequence[str] = ()
    next_command: str = ""
    metrics: Sequence[str] = ("hit@1", "hit@5")
    footer: str = field(
        default="Written by puma demo; every folder beside this page holds a puma.json."
    )


def score_headers(metrics: Sequence[str]) -> list[str]:
    """Return the head of the table of scores."""
    return ["model", "layers", *metrics, "of full", "parameters", "ms a query", "on disk"]


def score_cells(rows: Sequence[ScoreRow], metrics: Sequence[str]) -> list[list[str]]:
    """Return the table of scores as text; the first row is what the others are a share of."""
    full = rows[0].scores[metrics[0]] if rows else 0.0
    return [
        [
            row.name,
            str(row.layers),
            *(f"{row.scores[metric]:.1%}" for metric in metrics),
            share(row.scores[metrics[0]], full),
            count(row.parameters),
            f"{row.latency:.2f}" if row.latency < 10 else f"{row.latency:.1f}",
            size_on_disk(row.disk),
        ]
        for row in rows
    ]


def render_demo_page(content: DemoPage) -> str:
    """Return the page as one HTML document.

    Raises:
        DataError: a picture of an example cannot be read.
    """
    marked = () if content.marked is None else (content.marked,)
    sections = [
        card(content.headline, content.summary, content.next_command),
        heading("Scores"),
        table(
            score_headers(content.metrics),
            score_cells(content.rows, content.metrics),
            marked=marked,
        ),
    ]
    if content.score_note:
        sections.append(paragraph(content.score_note, note=True))
    for title, drawing in content.figures:
        sections += [heading(title), figure(drawing)]
    if content.examples:
        sections += [
            heading("What they retrieve"),
            paragraph(
                "The five best candidates, best first: green answers the query, red does not. "
                + content.example_note
            ),
            gallery(list(content.examples)),
        ]
    if content.commands:
        sections += [heading("The same by hand"), code("\n".join(content.commands))]
    return page(content.title, content.subtitle, sections, content.footer)


def write_demo_page(path: Path, content: DemoPage) -> None:
    """Write the page to `path`, whole or not at all.

    Raises:
        DataError: a picture of an example cannot be read.
        OutputError: the file cannot be written.
    """
    write_text(path, render_demo_page(content))
