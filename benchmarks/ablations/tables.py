"""Tables in Markdown, each from lines of results alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablations.grid import Question, Row, Run, Setup
from ablations.paired import Paired, compare
from ablations.records import OTHER, RIGHT, SAME, Results
from puma_cli.errors import DataError
from puma_cli.evaluation.bootstrap import Interval
from puma_cli.report.numbers import count, duration, size_on_disk

Array = NDArray[np.float64]
NONE = "–"
TEST, VAL = "test", "val"
# Points of hit@5 above chance that a task's teacher must be for the task to count.
ABOVE_CHANCE = 25
# What a student is to keep, and what the interval of it is to reach down to at least.
KEPT, SURELY_KEPT = 0.97, 0.95


def whole(run: Run) -> Run:
    """Return the scoring of the model that a run was cut from."""
    return Run(data=run.data, model=run.model, cut="whole", trainer="")


def tasks_of(row: Row, results: Results, split: str, metric: str) -> list[Array]:
    """Return for each task the metric by seed and query (S, Q); empty while a seed is missing.

    Raises:
        DataError: seeds were scored on other queries.
    """
    keys = [(run.key, split) for run in row.runs]
    if any(key not in results.lines for key in keys):
        return []
    hits = [results.hits[key] for key in keys]
    if any(dict(each.queries) != dict(hits[0].queries) for each in hits):
        raise DataError(
            f"The seeds of `{row.name}` on {row.data} were scored on different queries.",
            cause="The data set was drawn anew between them.",
            hint="Take their lines out of runs.jsonl and hits.jsonl, and run them again.",
        )
    values = [each.values(metric) for each in hits]
    return [np.stack([each[task] for each in values]) for task in values[0]]


def beside(
    row: Row, other: Row, results: Results, split: str, metric: str
) -> tuple[Paired, int] | None:
    """Return a row beside another, over the seeds that both have, and how many are missing.

    Raises:
        DataError: the two were made from other models or data, or scored on other queries.
    """
    common = _common(row, other, results, split)
    if common is None:
        return None
    ours, theirs = common
    _check_alike(ours, theirs, results, split)
    sides = tasks_of(ours, results, split, metric), tasks_of(theirs, results, split, metric)
    return compare(sides[0], sides[1]), len(row.runs) - len(ours.runs)


def _common(row: Row, other: Row, results: Results, split: str) -> tuple[Row, Row] | None:
    there = [
        {run.seed: run for run in each.runs if (run.key, split) in results.lines}
        for each in (row, other)
    ]
    single = [not each.runs[0].trainer for each in (row, other)]
    if not all(there):
        return None
    seeds = [seed for seed in there[0 if not single[0] else 1] if any(single) or seed in there[1]]
    if not seeds:
        return None
    runs = [
        tuple(each.values()) if one else tuple(each[seed] for seed in seeds)
        for each, one in zip(there, single, strict=True)
    ]
    return Row(row.name, row.data, runs[0]), Row(other.name, other.data, runs[1])


def _check_alike(row: Row, other: Row, results: Results, split: str) -> None:
    runs = (*row.runs, *other.runs)
    lines = [results.lines[run.key, split] for run in runs]
    for part in ("data", "model"):
        made = {
            line["made_from"][part]
            for line in lines
            if part == "data" or line["model"] == lines[0]["model"]
        }
        if len(made) > 1:
            raise DataError(
                f"`{row.name}` and `{other.name}` on {row.data} come from different contents of "
                f"their {part}.",
                hint="Run the older ones again: take their lines out of runs.jsonl and hits.jsonl.",
            )
    if len({str(sorted(results.hits[run.key, split].queries.items())) for run in runs}) > 1:
        raise DataError(f"`{row.name}` and `{other.name}` were scored on different queries.")


def main_table(
    question: Question, data: str, setup: Setup, results: Results, split: str = VAL
) -> list[str]:
    """Return the table of a question on one data set, or nothing while no row of it is there."""
    metric = setup.data[data].metric
    rows = [row for row in question.of(data) if split == VAL or row.name in question.test]
    base = next((row for row in rows if row.name == question.baseline), None)
    lines = []
    for row in rows:
        full = beside(row, Row("", data, (whole(row.runs[0]),)), results, split, metric)
        if full is None:
            continue
        own, missing = full
        against = None
        if base is not None and row.name != base.name:
            found = beside(row, base, results, split, metric)
            against = None if found is None else found[0]
        lines.append(
            f"| {row.name} | {_layers(row, results, split)} | {_seeds(row, own, missing)} | "
            f"{_percent(own.score)} ({_range(own.score_interval)}) | {_difference(against)} | "
            f"{_kept(own)} | {_took(row, results)} |"
        )
    if not lines:
        return []
    name = question.baseline if base is not None else "the baseline"
    return [
        f"| {split}, {metric} in % | layers | seeds | mean | against *{name}* | "
        "keeps of the full model | training |",
        "|---|---|---|---|---|---|---|",
        *lines,
    ]


def _seeds(row: Row, own: Paired, missing: int) -> str:
    if not row.runs[0].trainer:
        return NONE
    return f"{own.seeds} of {len(row.runs)}" if missing else str(own.seeds)


def _layers(row: Row, results: Results, split: str) -> str:
    for run in row.runs:
        if (run.key, split) in results.lines:
            return say_layers(results.lines[run.key, split]["layers"])
    return NONE


def say_layers(layers: Sequence[int]) -> str:
    """Return layers as `puma prune --layers` takes them, such as 0-2,11."""
    parts: list[list[int]] = []
    for layer in layers:
        if parts and layer == parts[-1][-1] + 1:
            parts[-1].append(layer)
        else:
            parts.append([layer])
    return ",".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)


def _took(row: Row, results: Results) -> str:
    seconds = [
        line["train_seconds"]
        for run in row.runs
        if (line := results.lines.get((run.key, VAL))) and line.get("train_seconds")
    ]
    return duration(statistics.median(seconds)) if seconds else NONE


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _range(bounds: Interval) -> str:
    return f"{100 * bounds.low:.1f} to {100 * bounds.high:.1f}"


def _difference(found: Paired | None) -> str:
    if found is None:
        return NONE
    bounds = found.difference_interval
    # Of one seed nothing is claimed.
    apart = found.seeds > 1 and (bounds.low > 0 or bounds.high < 0)
    text = f"{100 * found.difference:+.1f} ({100 * bounds.low:+.1f} to {100 * bounds.high:+.1f})"
    return f"**{text}**" if apart else text


def _kept(found: Paired) -> str:
    if found.kept is None:
        return NONE
    bounds = "" if found.kept_interval is None else f" ({_range(found.kept_interval)})"
    return f"{_percent(found.kept)}%{bounds}"


def error_table(question: Question, data: str, results: Results) -> list[str]:
    """Return whose modality the wrong first candidates of the union pool have, in percent."""
    lines = []
    for row in question.of(data):
        texts = [
            "".join(results.hits[run.key, VAL].wrong.values())
            for run in row.runs
            if (run.key, VAL) in results.hits
        ]
        if not texts or not all(texts):
            continue
        shares = [[text.count(mark) / len(text) for text in texts] for mark in (RIGHT, SAME, OTHER)]
        cells = " | ".join(
            f"{_percent(statistics.fmean(each))} ({_percent(min(each))} to {_percent(max(each))})"
            for each in shares
        )
        lines.append(f"| {row.name} | {len(texts)} | {cells} |")
    head = [
        "| union pool, first candidate, % of queries (lowest to highest seed) | seeds | right | "
        "wrong, of the answer's modality | wrong, of another |",
        "|---|---|---|---|---|",
    ]
    return [*head, *lines] if lines else []


def speed_table(question: Question, data: str, results: Results) -> list[str]:
    """Return pairs a second and peak memory of each row's trainings, medians over its seeds."""
    lines = []
    for row in question.of(data):
        known = [
            line
            for run in row.runs
            if (line := results.lines.get((run.key, VAL))) and line.get("pairs_per_second")
        ]
        if not known:
            continue
        speed = statistics.median(line["pairs_per_second"] for line in known)
        memory = [line["peak_memory"] for line in known if line.get("peak_memory")]
        held = size_on_disk(int(statistics.median(memory))) if memory else NONE
        where = ", ".join(sorted({line["machine"] for line in known}))
        lines.append(f"| {row.name} | {len(known)} | {speed:.1f} | {held} | {where} |")
    head = [
        "| training | seeds | pairs a second | peak memory of the process | machine |",
        "|---|---|---|---|---|",
    ]
    return [*head, *lines] if lines else []


def cost_table(model: str, data: str, results: Results) -> list[str]:
    """Return what each depth of a model costs, as its analysis measured it."""
    line = results.profiles.get((model, data))
    if line is None:
        return []
    rows = []
    for cost in line["costs"]:
        mark = "" if cost["measured"] else "*"
        rows.append(
            f"| {cost['k']} | {count(cost['parameters'])} | {size_on_disk(cost['weight_bytes'])} | "
            f"{cost['latency_ms']:.1f}{mark} | {cost['queries_per_second']:.0f}{mark} | "
            f"{size_on_disk(line['index_bytes'])} |"
        )
    return [
        "| layers | parameters | weights | ms a query | queries a second | index, float16 |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"{model} on {data}, {line['machine']}; * on a line through the depths that were timed.",
    ]


def bar_table(
    question: Question, data: str, setup: Setup, results: Results, split: str
) -> list[str]:
    """Return what students keep of the better of their teacher and the teacher trained on."""
    metric = setup.data[data].metric
    base = next(row for row in question.of(data) if row.name == question.baseline)
    full = Row("the full model", data, (whole(base.runs[0]),))
    trained = beside(base, full, results, split, metric)
    if trained is None:
        return []
    better = base if trained[0].score > trained[0].reference else full
    lines = []
    for row in question.of(data):
        found = None if row is base else beside(row, better, results, split, metric)
        if found is None or found[0].kept is None:
            continue
        own, low = found[0], found[0].kept_interval.low if found[0].kept_interval else 0.0
        met = own.kept is not None and own.kept >= KEPT and low >= SURELY_KEPT
        lines.append(
            f"| {row.name} | {own.seeds} | {_percent(own.score)} | {_percent(own.reference)} | "
            f"{_kept(own)} | {'yes' if met else 'no'} |"
        )
    head = [
        f"| {split}, {metric} in % | seeds | mean | {better.name} | keeps of it | "
        f"at least {KEPT:.0%}, surely {SURELY_KEPT:.0%} |",
        "|---|---|---|---|---|---|",
    ]
    return [*head, *lines] if lines else []


def task_table(question: Question, data: str, setup: Setup, results: Results) -> list[str]:
    """Return the test split task by task, with which of them count."""
    metric = setup.data[data].metric
    rows = [row for row in question.of(data) if row.name in question.test]
    there = [row for row in rows if any((run.key, TEST) in results.lines for run in row.runs)]
    if not there:
        return []
    full = results.lines.get((whole(there[0].runs[0]).key, TEST))
    if full is None:
        return []
    names = " | ".join(row.name for row in there)
    lines, counted = [], 0
    for task in full["per_task"]:
        by_chance = full["chance"][task]
        teacher = _mean_of([(full["key"], TEST)], results, "hit@5", task)
        counts = 100 * (teacher - by_chance) >= ABOVE_CHANCE
        counted += counts
        cells = [_percent(_mean_of(_keys(row, results), results, metric, task)) for row in there]
        own = _percent(_mean_of([(full["key"], TEST)], results, metric, task))
        lines.append(f"| {task} | {'yes' if counts else 'no'} | {own} | {' | '.join(cells)} |")
    return [
        f"| test, {metric} in % | counts | full model | {names} |",
        "|---|---|---|" + "---|" * len(there),
        *lines,
        "",
        f"{counted} of {len(lines)} tasks count: the full model's hit@5 is at least "
        f"{ABOVE_CHANCE} points above chance.",
    ]


def _keys(row: Row, results: Results) -> list[tuple[str, str]]:
    return [(run.key, TEST) for run in row.runs if (run.key, TEST) in results.lines]


def _mean_of(keys: Iterable[tuple[str, str]], results: Results, metric: str, task: str) -> float:
    return statistics.fmean(float(results.hits[key].values(metric)[task].mean()) for key in keys)


def student_table(lines: Sequence[dict[str, Any]]) -> list[str]:
    """Return the students that benchmarks/analyze/students.py has trained, by teacher and cut."""
    groups: dict[tuple[str, tuple[int, ...]], list[dict[str, Any]]] = {}
    for line in lines:
        layers = tuple(map(int, line["layers"].split(",")))
        groups.setdefault((line["teacher"], layers), []).append(line)
    rows = []
    for (teacher, layers), runs in sorted(groups.items(), key=lambda g: (g[0][0], len(g[0][1]))):
        kept = [run["retention"] for run in runs]
        error = statistics.fmean(run["standard_error"] ** 2 for run in runs)
        if len(kept) > 1:
            error += statistics.variance(kept) / len(kept)
        reach = 196 * error**0.5
        scores = runs[0]["scores"]
        untrained = scores["cut"]["hit@1"] / scores["teacher"]["hit@1"]
        scores = runs[0]["scores"]
        untrained = scores["cut"]["hit@1"] / scores["teacher"]["hit@1"]
        rows.append(
            f"| {teacher} | {say_layers(layers)} of {runs[0]['depth']} | {len(runs)} | "
            f"{100 * statistics.fmean(kept):.1f}% ± {reach:.1f} | "
            f"{_percent(untrained)}% |"
        )
    head = [
        "| teacher | layers | seeds | keeps of hit@1 on test | untrained cut keeps |",
        "|---|---|---|---|---|",
    ]
    return [*head, *rows] if rows else []
