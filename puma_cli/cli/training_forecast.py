"""How `puma distill --dry-run` shows what a training would take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from puma_cli.cli.output import Outcome, Table
from puma_cli.report.numbers import duration, size_on_disk

if TYPE_CHECKING:
    from puma_cli.config.training_settings import DistillSettings
    from puma_cli.distillation.forecast.forecast import Forecast

_NONE = "–"


def forecast_outcome(found: Forecast, settings: DistillSettings) -> Outcome:
    """Return what the command says; as JSON, all sizes are in bytes and all times in seconds."""
    return Outcome(
        value=str(found.peak),
        payload=_payload(found),
        body=(_plan(found, settings), _memory(found), *_time(found), *_remarks(found)),
        next_command="the same command without --dry-run",
    )


def _payload(found: Forecast) -> dict[str, Any]:
    plain = asdict(found)
    plain["memory"]["total"] = found.memory.total
    plain["peak"], plain["seconds"] = found.peak, found.seconds
    if plain["cache"] is not None:
        del plain["cache"]["entries"]
    return plain


def _plan(found: Forecast, settings: DistillSettings) -> Table:
    together = f" in {found.processes} processes" if found.processes > 1 else ""
    rows = [
        ("training queries", f"{found.queries:,}"),
        ("batch", f"{found.batch:,} queries, up to {found.inputs:,} inputs"),
        ("tokens of a pass", f"up to {found.pass_tokens:,}"),
        ("steps", f"{found.steps:,}"),
        ("epochs", f"{found.epochs:.2f}"),
    ]
    if found.cache is not None:
        rows.append(("teacher cache", _cache(found)))
    title = f"{settings.student} on {settings.data}, on {found.device}{together}"
    return Table(("", "takes"), rows, title=title)


def _cache(found: Forecast) -> str:
    cache = found.cache
    assert cache is not None
    text = f"{cache.inputs:,} inputs, {size_on_disk(cache.bytes)} on disk"
    if cache.missing < cache.inputs:
        text += f"; {cache.missing:,} are missing, {size_on_disk(cache.missing_bytes)}"
    return text


def _memory(found: Forecast) -> Table:
    plan, measured = found.memory, found.measured
    teacher = "its further layers" if found.one_copy else "teacher's own weights"
    parts = (
        ("student's weights", plan.student),
        (f"teacher: {teacher}" if found.one_copy else teacher, plan.teacher),
        ("gradients", plan.gradients),
        ("optimizer's moments", plan.moments),
        ("activations of a pass", plan.activations),
        ("embeddings and their gradients", plan.embeddings),
        ("teacher's rows of a batch", plan.teacher_rows),
        ("images seen before", plan.images),
    )
    rows = [(name, size_on_disk(size), _NONE) for name, size in parts]
    known = measured.memory if measured else None
    opening = measured.opening_memory if measured else None
    rows.append(("in all, training", size_on_disk(plan.total), _size(known)))
    rows.append(("before, both models open", size_on_disk(found.opening), _size(opening)))
    title = "Memory of each process" if found.processes > 1 else "Memory"
    return Table(("", "estimate", "measured"), rows, title=title, strong=(len(parts),))


def _size(size: int | None) -> str:
    return _NONE if size is None else size_on_disk(size)


def _time(found: Forecast) -> Iterator[Table]:
    measured = found.measured
    if measured is None or found.seconds is None:
        return
    names = {
        "teacher_cache": "the teacher reads the inputs",
        "teacher_validation": "the teacher is scored",
        "images": "images are seen",
        "projection": "the projection is fitted",
        "steps": f"{found.steps:,} steps of {measured.step_seconds:.3g} s",
        "validations": "validations",
    }
    rows = [(names[name], duration(took)) for name, took in measured.seconds.items()]
    rows.append(("in all, without saving", duration(found.seconds)))
    title = f"Time, after {measured.steps} measured steps"
    yield Table(("", "takes"), rows, title=title, strong=(len(rows) - 1,))


def _remarks(found: Forecast) -> Iterator[str]:
    if found.remedies:
        yield "It does not fit: the first steps ran out of memory. What helps, the most first:"
        yield from (f"{n}. {r.change}: {r.effect}." for n, r in enumerate(found.remedies, start=1))
    yield "Dry run: nothing was kept or written."
