"""The tables of a training: scores by task, terms of the loss, settings and sources."""

from __future__ import annotations

from collections.abc import Sequence

from puma_cli.checkpoint.inspection import say_layers
from puma_cli.config.changes import Change
from puma_cli.config.training_settings import FRESH, NO_TEACHER
from puma_cli.distillation.validation import STUDENT, TEACHER
from puma_cli.report.numbers import share, three_digits
from puma_cli.report.page import table
from puma_cli.report.training_history import TrainingHistory

UNKNOWN = "–"


def score_rows(history: TrainingHistory, step: int) -> list[list[str]]:
    """Return hit@1 at a step by task and in the mean, with the teacher's where it is known.

    A step without a validation has no rows.
    """
    teacher = {**history.named(TEACHER), "mean": history.series(TEACHER)}
    rows = []
    for name, found in {**history.named(STUDENT), "mean": history.series(STUDENT)}.items():
        if step not in found.steps:
            continue
        hit = found.values[found.steps.index(step)]
        row = [name, f"{hit:.1%}"]
        if history.teacher is not None:
            whole = teacher[name].values[0] if teacher.get(name) else None
            row += [UNKNOWN, UNKNOWN] if whole is None else [f"{whole:.1%}", share(hit, whole)]
        rows.append(row)
    return rows


def score_headers(history: TrainingHistory) -> list[str]:
    """Return the headings of `score_rows`."""
    headers = ["task", "hit@1"]
    return headers if history.teacher is None else [*headers, "teacher", "of the teacher's"]


def score_table(history: TrainingHistory) -> str:
    """Return the scores of the weights that are kept."""
    rows = score_rows(history, history.best[0] if history.best else 0)
    return table(score_headers(history), rows, marked=(len(rows) - 1,))


def term_table(history: TrainingHistory) -> str:
    """Return each term of the loss at the first and the last logged step."""
    total, rows = history.series("loss"), []
    for name, weight in history.weights().items():
        found = history.series(name)
        if found:
            first, last = found.values[0], found.values[-1]
            part = share(weight * last, total.values[-1])
            rows.append([name, f"{weight:g}", three_digits(first), three_digits(last), part])
    first, last = total.values[0], total.values[-1]
    rows.append(["loss", "", three_digits(first), three_digits(last), ""])
    headers = ("term, unweighted", "weight", "first", "last", "of the loss at last")
    return table(headers, rows, marked=(len(rows) - 1,))


def settings_table(changed: Sequence[Change]) -> str:
    """Return the settings that are not the defaults."""
    rows = [[f"`{name}`", value, default] for name, value, default in changed]
    return table(("setting", "value", "default"), rows, words=True)


def source_table(history: TrainingHistory) -> str:
    """Return what the training was made from and on."""
    return table(("what", "which"), source_rows(history), words=True)


def source_rows(history: TrainingHistory) -> list[list[str]]:
    """Return student, teacher, data, machine and versions.

    Before the end of a training, the settings alone say so.
    """
    made = history.provenance
    if made is None:
        names = {role: history.settings.get(role) for role in ("student", "teacher", "data")}
        return [[role, str(name)] for role, name in names.items() if name]
    rows = [
        [parent.role, f"{parent.name} (`{_shortened(parent.fingerprint)}`)"]
        for parent in made.parents
    ]
    roles = {parent.role for parent in made.parents}
    if "student" not in roles and history.settings.get("student") == FRESH:
        rows.insert(0, ["student", "newly initialised"])
    if "teacher" not in roles and history.settings.get("teacher") == NO_TEACHER:
        rows.append(["teacher", "none"])
    if made.kept_layers is not None:
        rows.append(["decoder layers of the teacher", say_layers(made.kept_layers)])
    if "device" in made.results:
        rows.append(["machine", str(made.results["device"])])
    versions = ", ".join(f"{name} {number}" for name, number in made.versions.items())
    return [*rows, ["versions", versions], ["finished", made.created]]


def _shortened(fingerprint: str) -> str:
    """Return as much of a hash as tells it apart; `puma.json` has the whole."""
    kind, _, digits = fingerprint.partition(":")
    return f"{kind}:{digits[:12]}"
