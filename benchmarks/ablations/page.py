"""The page of all tables, and the figures, from the results alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from matplotlib.figure import Figure

from ablations.figures import draw_curve, draw_differences
from ablations.grid import Question, Setup
from ablations.records import ROOT, Results, read_lines, read_results
from ablations.tables import (
    TEST,
    VAL,
    bar_table,
    cost_table,
    error_table,
    main_table,
    speed_table,
    student_table,
    task_table,
)

_HEAD = """\
# Ablations

Every table here is made of the lines in `ablations/` by `python benchmarks/ablations
tables`; do not edit it by hand. Runs are described in
[benchmarks/ablations](../../benchmarks/ablations/README.md). Choices are made on val; test is
scored once for each chosen setting.

How to read it: means are over tasks, then over seeds. Intervals are 95%, by a bootstrap that
draws seeds and, within each task, queries, the same for both sides of a difference. A difference
in bold has an interval without 0 over several seeds; with three to five seeds it still says
little of other seeds. *Training* is the median time of one training on the machine that the lines
name.
"""
_BLOCK = re.compile(r"(<!-- ablations: ([\w-]+) -->\n).*?(<!-- end of ablations -->)", re.DOTALL)


def write_pages(
    questions: Sequence[Question], setup: Setup, folder: Path, check: bool = False
) -> list[Path]:
    """Write the page, the figures and what other pages quote; return what has changed.

    Beside the results' folder lie the page `NAME.md` and perhaps a `README.md`; what that has
    between `<!-- ablations: QUESTION -->` and `<!-- end of ablations -->` is filled in too.

    Args:
        check: write nothing.
    """
    results = read_results(folder)
    sections = {each.name: section(each, setup, results, folder) for each in questions}
    figures = figures_of(questions, setup, results)
    parts = [_HEAD]
    for question in questions:
        drawn = [name for name in figures if name.startswith(f"{question.name}-")]
        shown = [f"![{name}]({folder.name}/{name}.svg)" for name in drawn]
        body = [*shown, *sections[question.name]] or ["No run of it is done yet."]
        parts += [f"## {question.name}: {question.title}", "\n".join(body) + "\n"]
    wanted = {folder.with_suffix(".md"): "\n".join(parts)}
    wanted |= {folder / f"{name}.svg": text for name, text in figures.items()}
    other = folder.parent / "README.md"
    if other.is_file():
        text = other.read_text(encoding="utf-8")
        wanted[other] = _BLOCK.sub(lambda m: _filled(m, sections), text)
    changed = [path for path, text in wanted.items() if _read(path) != text]
    stale = set(folder.glob("*.svg")) - wanted.keys()
    if not check:
        for path in changed:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
        for path in stale:
            path.unlink()
    return [*changed, *sorted(stale)]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _filled(match: re.Match[str], sections: dict[str, list[str]]) -> str:
    lines = sections.get(match[2])
    return match[0] if lines is None else match[1] + "\n".join(lines) + "\n" + match[3]


def section(question: Question, setup: Setup, results: Results, folder: Path) -> list[str]:
    """Return the tables of one question, as lines of Markdown."""
    tables: list[list[str]] = []
    for data in question.data:
        found = [
            main_table(question, data, setup, results),
            main_table(question, data, setup, results, TEST),
            *(_bar(question, data, setup, results) if question.name == "bar" else []),
            error_table(question, data, results) if question.name == "a" else [],
            speed_table(question, data, results) if question.name in ("h", "j") else [],
        ]
        found = [table for table in found if table]
        if found:
            tables += [[f"### {data}"], *found]
    for data in question.profiles:
        tables.append(cost_table(setup.data[data].model, data, results))
    if question.students:
        from ablations.predictions import prediction_table

        students = read_lines(ROOT / question.students)
        if not question.rows:
            said = read_lines(folder / "predictions.jsonl")
            tables.append(prediction_table(students, said))
        else:
            tables.append(student_table(students))
    tables = [table for table in tables if table]
    if tables and question.notes:
        tables.append(list(question.notes))
    return [line for table in tables for line in ("", *table)][1:]


def _bar(question: Question, data: str, setup: Setup, results: Results) -> list[list[str]]:
    return [
        *(bar_table(question, data, setup, results, split) for split in (VAL, TEST)),
        task_table(question, data, setup, results),
    ]


def figures_of(questions: Sequence[Question], setup: Setup, results: Results) -> dict[str, str]:
    """Return the figures as SVG by name, those for which there are results."""
    found: dict[str, Figure | None] = {}
    for question in questions:
        for data in question.data:
            draw = draw_curve if question.name == "i" else draw_differences
            found[f"{question.name}-{data}"] = draw(question, data, setup, results)
    return {name: as_svg(figure, name) for name, figure in found.items() if figure is not None}


def as_svg(figure: Figure, name: str) -> str:
    """Return a figure as SVG, the same text for the same figure."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
