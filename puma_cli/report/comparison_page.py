"""The report of a comparison: what each model keeps, and which queries it gained and lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from puma_cli.checkpoint.output_folder import write_text
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.errors import DataError
from puma_cli.evaluation.comparison import Cell, Comparison, ComparisonRow
from puma_cli.evaluation.results import MBEIR, Scores
from puma_cli.evaluation.score_folder import RUNS, read_scores
from puma_cli.evaluation.tasks import Task, make_pool, read_tasks
from puma_cli.report.drawing import to_svg
from puma_cli.report.found_examples import gained_and_lost, make_example, read_run
from puma_cli.report.gallery import Example
from puma_cli.report.page import Drawing, figure, heading, page, paragraph, table
from puma_cli.report.score_bars import Bar, plot_bars
from puma_cli.report.score_page import shown_examples

_EXAMPLES = 16
_MODELS = 5


def write_comparison_page(path: Path, comparison: Comparison, seed: int = 0) -> None:
    """Write the page to `path`, whole or not at all.

    Args:
        seed: of the examples drawn.

    Raises:
        DataError: a score folder is broken.
        OutputError: the file cannot be written.
    """
    try:
        examples, note = _examples(comparison, seed), ""
    except (DataError, OSError, ValueError) as error:
        problem = error.problem if isinstance(error, DataError) else str(error)
        examples, note = [], f"There are no examples: {problem}"
    write_text(path, render_comparison_page(comparison, examples, note))


def render_comparison_page(
    comparison: Comparison, examples: Sequence[Example], note: str = ""
) -> str:
    """Return the page as one HTML document."""
    rows = (*comparison.rows, comparison.mean)
    names = [folder.name for folder in comparison.folders][:_MODELS]
    title = f"{comparison.metric}, {comparison.pool} pool, {comparison.split}"
    bars = [[_bar(cell) for cell in row.cells[:_MODELS]] for row in rows]
    heads = ["task", "queries", names[0]]
    for name in names[1:]:
        heads += [name, "kept", "95% interval", "p"]
    sections = [paragraph(each, note=True) for each in comparison.notes]
    sections += [
        heading("Scores"),
        table(heads, [_cells(row) for row in rows], marked=(len(rows) - 1,)),
        figure(
            Drawing(
                to_svg(
                    plot_bars([row.task for row in rows], names, bars, title),
                    "bars",
                    f"{title}, model by model",
                ),
                "Lines are 95% intervals of a bootstrap over the queries.",
            )
        ),
    ]
    if comparison.published is not None:
        sections += _published(comparison)
    sections += shown_examples(
        examples,
        f"Queries drawn by the seed that {names[0]} answers at rank 1 and another does not (lost), "
        "or the other way round (gained). Green answers the query, red does not.",
    )
    if note:
        sections.append(paragraph(note, note=True))
    subtitle = f"{title}; what is kept of {comparison.models[0]}'s score"
    return page(f"{len(names)} models compared", subtitle, sections, "Written by puma compare.")


def _cells(row: ComparisonRow) -> list[str]:
    reference, *others = row.cells[:_MODELS]
    cells = [row.task, str(row.queries), _percent(reference.score)]
    for cell in others:
        bounds = cell.retention_interval
        cells += [
            _percent(cell.score),
            "–" if cell.retention is None else f"{_percent(cell.retention)}%",
            "–" if bounds is None else f"{_percent(bounds[0])} to {_percent(bounds[1])}",
            "–" if cell.p_value is None else f"{cell.p_value:.4f}",
        ]
    return cells


def _published(comparison: Comparison) -> list[str]:
    beside = comparison.published
    assert beside is not None
    heads = ["task", *(folder.name for folder in comparison.folders)]
    heads += [f"{model.model}, {model.pool} ({model.source})" for model in beside.models]
    by_task = {row.task: [_percent(cell.score) for cell in row.cells] for row in comparison.rows}
    rows = [
        [task, *by_task[task], *(_percent(model.values[task]) for model in beside.models)]
        for task in beside.tasks
    ]
    if beside.whole:
        mean = [_percent(cell.score) for cell in comparison.mean.cells]
        rows.append(["mean", *mean, *(_percent(model.mean) for model in beside.models)])
    return [
        heading("Beside published numbers"),
        table(heads, rows),
        *(paragraph(note, note=True) for note in beside.notes),
    ]


def _examples(comparison: Comparison, seed: int) -> list[Example]:
    scores = [read_scores(folder) for folder in comparison.folders]
    first = scores[0]
    if first.protocol != MBEIR:
        raise DataError(f"scores by {first.protocol} keep no runs.")
    data = MbeirFolder(Path(first.data))
    tasks = {
        task.name.name: task for task in read_tasks(data, first.split, first.tasks, first.limit)
    }
    count = max(1, _EXAMPLES // (2 * len(comparison.rows) * max(1, len(scores) - 1)))
    examples: list[Example] = []
    for line in comparison.rows:
        if len(examples) >= _EXAMPLES:
            break
        task = tasks[line.task]
        before = first.row(line.task, comparison.pool)
        if task.digest != before.query_hash:
            raise DataError(f"the queries of {line.task} are not those that were scored.")
        chosen = [
            (number, word, place)
            for number, other in enumerate(scores[1:], start=1)
            for word, place in gained_and_lost(
                before, other.row(line.task, comparison.pool), count, seed
            )
        ]
        if chosen:
            examples += _of_task(comparison, scores, data, task, chosen)
    return examples[:_EXAMPLES]


def _of_task(
    comparison: Comparison,
    scores: Sequence[Scores],
    data: MbeirFolder,
    task: Task,
    chosen: Sequence[tuple[int, str, int]],
) -> list[Example]:
    """Return the examples of one task: the number of a model, a word and a query's place each."""
    name, pool, split = task.name.name, comparison.pool, comparison.split
    lines = data.local_pool(task.name, split) if pool == "local" else data.union_pool(split)
    candidates = make_pool(pool, lines, data.root)
    wanted = {task.queries[place].qid for _, _, place in chosen}
    runs = [read_run(folder / RUNS / pool / f"{name}.txt", wanted) for folder in comparison.folders]
    asked = task.inputs(data.instructions, scores[0].instruction, scores[0].seed)
    examples = []
    for number, word, place in chosen:
        query = task.queries[place]
        found = {
            comparison.folders[each].name: (
                runs[each].get(query.qid, []),
                int(scores[each].row(name, pool).ranks[place]),
            )
            for each in (0, number)
        }
        who = comparison.folders[number].name
        examples.append(
            make_example(
                f"{name}: {word} by {who}",
                query,
                asked[place].instruction,
                task.relevant[place],
                found,
                lambda did: candidates.candidates[candidates.index[did]],
            )
        )
    return examples


def _bar(cell: Cell) -> Bar:
    return Bar(cell.score, *cell.score_interval)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
