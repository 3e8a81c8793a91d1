"""The report of an evaluation: the table with intervals, bars and retrieved examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from puma_cli.checkpoint.output_folder import write_text
from puma_cli.errors import PumaError
from puma_cli.evaluation.bootstrap import interval, resampled_tasks
from puma_cli.evaluation.results import MMEB, Scores
from puma_cli.report.drawing import to_svg
from puma_cli.report.gallery import Example, gallery
from puma_cli.report.page import Drawing, figure, heading, page, paragraph, table
from puma_cli.report.score_bars import Bar, plot_bars

REPORT = "report.html"
_METRICS = ("hit@5", "hit@10", "mrr@10", "ndcg@10")
_RESAMPLES = 2000
# So that a page with many pictures can still be mailed.
_MOST_BYTES = 4_000_000


def write_score_page(folder: Path, scores: Scores, examples: Sequence[Example]) -> None:
    """Write `report.html` into a score folder.

    Raises:
        OutputError: the file cannot be written.
    """
    write_text(folder / REPORT, render_score_page(scores, examples))


def render_score_page(scores: Scores, examples: Sequence[Example]) -> str:
    """Return the report as one HTML document; examples whose pictures are broken are left out."""
    sections = [paragraph(remark, note=True) for remark in scores.remarks]
    metric = "hit@1" if scores.protocol == MMEB else "hit@k"
    for pool in scores.pools:
        rows = scores.of_pool(pool)
        bars = _bars(scores, metric, pool)
        tasks = [*(row.task for row in rows), "mean"]
        name = f"{pool} pool"
        sections += [
            heading(f"Scores, {name}"),
            table(*_table(scores, pool, bars, metric), marked=(len(rows),)),
            figure(
                Drawing(
                    to_svg(
                        plot_bars(tasks, [scores.label], [[bar] for bar in bars], _title(metric)),
                        f"bars-{pool}",
                        f"{metric} of each task in the {name}",
                    ),
                    "Lines are 95% intervals of a bootstrap over the queries.",
                )
            ),
        ]
    sections += shown_examples(
        examples,
        "Of each task, queries drawn by the seed: answered right and wrong at rank 1. Green "
        "answers the query, red does not.",
    )
    subtitle = f"{scores.data}, {scores.split}; instructions: {scores.instruction}"
    if scores.instruction == "seeded":
        subtitle += f" by {scores.seed}"
    return page(f"Scores of {scores.label}", subtitle, sections, "Written by puma eval.")


def shown_examples(examples: Sequence[Example], note: str) -> list[str]:
    """Return the gallery as sections of a page, as many examples as fit the size of one."""
    drawn: list[str] = []
    left_out = 0
    size = 0
    for example in examples:
        try:
            html = gallery([example])
        except PumaError:
            left_out += 1
            continue
        if size + len(html) > _MOST_BYTES:
            left_out += 1
            continue
        size += len(html)
        drawn.append(html)
    if not drawn:
        return []
    if left_out:
        note += f" {left_out} more are left out: their pictures are too large, or cannot be read."
    return [heading("What is found"), paragraph(note), *drawn]


def _bars(scores: Scores, metric: str, pool: str) -> list[Bar]:
    """Return a bar for each task of a pool and one for their mean."""
    values = [row.values(metric)[:, None] for row in scores.of_pool(pool)]
    drawn, mean = resampled_tasks(values, _RESAMPLES, scores.seed)
    centres = [float(each.mean()) for each in values]
    samples = [*(each[:, 0] for each in drawn), mean[:, 0]]
    return [
        Bar(centre, *interval(sample))
        for centre, sample in zip([*centres, float(np.mean(centres))], samples, strict=True)
    ]


def _table(
    scores: Scores, pool: str, bars: Sequence[Bar], metric: str
) -> tuple[list[str], list[list[str]]]:
    rows = scores.of_pool(pool)
    heads = ["task", "queries", "candidates", *(["K"] if metric == "hit@k" else [])]
    heads += [metric, "95% interval", "hit@1" if metric == "hit@k" else "hit@5", *_METRICS[1:]]
    cells = []
    for number, bar in enumerate(bars):
        last = number == len(rows)
        if last:
            count = str(sum(row.queries for row in rows))
            line = ["mean", count, "", *([""] if metric == "hit@k" else [])]
        else:
            row = rows[number]
            line = [row.task, str(row.queries), str(row.candidates)]
            line += [str(row.k)] if metric == "hit@k" else []
        line += [_percent(bar.score), f"{_percent(bar.low)} to {_percent(bar.high)}"]
        for name in heads[-4:]:
            value = scores.mean(name, pool) if last else rows[number].score(name)
            line.append(_percent(value))
        cells.append(line)
    return heads, cells


def _title(metric: str) -> str:
    return "hit@K, K being each data set's own" if metric == "hit@k" else metric


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
