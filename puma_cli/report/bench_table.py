"""The numbers of a bench as rows, a column for each model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from puma_cli.benching.results import CANDIDATE, QUERY, Bench, ModelResult, Spread, Timing
from puma_cli.report.numbers import count, duration, size_on_disk, three_digits

# Characters of a table, its labels, a cell and what stands between two.
_WIDTH, _LABEL, _CELL, _GAP = 78, 24, 11, 2
_LONGEST = 24
_NAMES = {QUERY: "query", CANDIDATE: "candidate"}
_MANY = {QUERY: "queries", CANDIDATE: "candidates"}

Row = tuple[str, Callable[[ModelResult], str]]


def bench_tables(bench: Bench) -> list[tuple[list[str], list[list[str]]]]:
    """Return the headings and rows of tables that fit 80 columns, the reference in each."""
    rows = _rows(bench)
    tables = []
    for group in _groups(bench):
        shown = [bench.models[0], *group]
        cells = [[label, *(cell(model) for model in shown)] for label, cell in rows]
        # What no model says is no row.
        filled = [row for row in cells if any(cell != "–" for cell in row[1:])]
        tables.append((["", *(_short(model.name) for model in shown)], filled))
    return tables


def _rows(bench: Bench) -> list[Row]:
    rows: list[Row] = [
        ("decoder layers", lambda m: str(m.layers)),
        ("parameters", lambda m: count(m.parameters)),
        ("size on disk", lambda m: size_on_disk(m.disk)),
        ("peak memory", lambda m: "–" if m.memory is None else size_on_disk(m.memory)),
    ]
    for side in (QUERY, CANDIDATE):
        rows += [
            (f"one {_NAMES[side]}, ms", _milliseconds(side)),
            ("  times as fast", _faster(side, "alone")),
            ("  model alone, of ideal", _of_ideal(side, "alone_model")),
            (f"{_MANY[side]} a second", _per_second(side)),
            ("  times as fast", _faster(side, "batched")),
            ("  model alone, of ideal", _of_ideal(side, "batched_model")),
            ("  tokens a second", _tokens(side)),
            (f"GFLOPs a {_NAMES[side]}", _flops(side)),
        ]
    rows += [
        ("1 M candidates: index", lambda m: size_on_disk(m.index)),
        ("1 M candidates: time", lambda m: duration(3600 * m.candidate.hours_per_million)),
        ("1 M candidates: cost", lambda m: three_digits(bench.cost_per_million(m))),
    ]
    if bench.metric:
        rows += [
            (bench.metric, lambda m: _percent(m.kept.score if m.kept else None)),
            ("  kept", lambda m: _percent(m.kept.retention if m.kept else None)),
            ("  95% interval", _interval),
        ]
    return rows


def _milliseconds(side: str) -> Callable[[ModelResult], str]:
    def cell(model: ModelResult) -> str:
        found = model.side(side).alone.seconds
        return _spread(Spread(1000 * found.median, 1000 * found.low, 1000 * found.high))

    return cell


def _per_second(side: str) -> Callable[[ModelResult], str]:
    return lambda model: _spread(model.side(side).per_second)


def _faster(side: str, kind: str) -> Callable[[ModelResult], str]:
    return lambda model: f"{_timing(model, side, kind).faster.median:.2f}"


def _of_ideal(side: str, kind: str) -> Callable[[ModelResult], str]:
    def cell(model: ModelResult) -> str:
        timing = _timing(model, side, kind)
        if timing.ideal == timing.faster.median == 1:
            # The reference beside itself.
            return "–"
        return f"{100 * timing.of_ideal:.0f}% of {timing.ideal:.2f}"

    return cell


def _timing(model: ModelResult, side: str, kind: str) -> Timing:
    found: Timing = getattr(model.side(side), kind)
    return found


def _tokens(side: str) -> Callable[[ModelResult], str]:
    return lambda model: three_digits(model.side(side).tokens_per_second)


def _flops(side: str) -> Callable[[ModelResult], str]:
    return lambda model: three_digits(model.side(side).flops / 1e9)


def _interval(model: ModelResult) -> str:
    bounds = model.kept.interval if model.kept else None
    return "–" if bounds is None else f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}%"


def _spread(found: Spread) -> str:
    return f"{three_digits(found.median)} ±{found.half:.2g}"


def _groups(bench: Bench) -> list[list[ModelResult]]:
    """Return the models beside the reference in groups whose columns fit in beside it."""
    first, *others = bench.models
    groups: list[list[ModelResult]] = [[]]
    room = left = _WIDTH - _LABEL - _column(first)
    for model in others:
        left -= _column(model)
        if left < 0 and groups[-1]:
            groups.append([])
            left = room - _column(model)
        groups[-1].append(model)
    return groups


def _column(model: ModelResult) -> int:
    return max(_CELL, len(_short(model.name))) + _GAP


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"


def explain_table(bench: Bench) -> Sequence[str]:
    """Return what the numbers mean, in sentences."""
    lines = [
        f"Inputs: {bench.inputs}.",
        "Times are from text and picture to vector; ± is half the distance between the quartiles "
        f"of {bench.rounds} rounds. Ideal is the ratio of FLOPs, vision counted.",
        f"Cost at {bench.price_per_hour:g} an hour (--price-per-hour); index in float16.",
    ]
    if any(model.memory is not None for model in bench.models):
        lines.append(
            "Memory is what the model, its inputs and the work on them add to Python and its "
            "libraries."
            if bench.device.startswith("cpu")
            else "Memory is what tensors take on the device, weights included."
        )
    return [*lines, *bench.notes]
