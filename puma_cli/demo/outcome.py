"""What a demo comes to: one table, one page, one result."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.decoder_keys import find_decoder, parameters_by_part
from puma_cli.checkpoint.safetensors_header import checkpoint_headers
from puma_cli.checkpoint.size import bytes_on_disk
from puma_cli.checkpoint.source import resolve
from puma_cli.config.settings import DemoSettings
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.demo.examples import HOW, pick_examples
from puma_cli.demo.folders import DemoFolders
from puma_cli.demo.latency import measure_latency
from puma_cli.evaluation.comparison import Cell, Comparison, compare
from puma_cli.models.devices import choose_device
from puma_cli.models.inputs import Input
from puma_cli.profiling.profile import PLAIN, LayerProfile, read_profile
from puma_cli.report.demo_page import DemoPage, ScoreRow, write_demo_page
from puma_cli.report.drawing import to_svg
from puma_cli.report.page import Drawing
from puma_cli.report.plots import plot_readout
from puma_cli.report.score_plot import plot_scores

TEACHER, CUT, STUDENT = "teacher", "cut", "student"
NAMES = {TEACHER: "full model", CUT: "cut, untrained", STUDENT: "student"}
METRICS = ("hit@1", "hit@5")
# What the demo asks the profile for.
TARGET = 0.9
# The task whose queries hold both a text and an image.
_LATENCY_TASK = 7


@dataclass(frozen=True)
class DemoResult:
    """What `puma demo` found out.

    Args:
        folder: the demo's folder.
        student: the trained model's folder.
        search: a command that asks it for pictures.
        page: the report.
        title: what the rows are about, with data, split and whether they are partial.
        rows: teacher, untrained cut and student.
        retention: the share of the teacher's mean hit@1 that the student keeps, or None of 0.
        retention_interval: its 95% interval.
        recommended: the depth that the profile recommends; the demo's own is in `rows`.
        notes: what to know about the rows, in sentences.
        seconds: time of each stage.
    """

    folder: Path
    student: Path
    search: str
    page: Path
    title: str
    rows: tuple[ScoreRow, ...]
    retention: float | None
    retention_interval: tuple[float, float] | None
    recommended: int
    notes: tuple[str, ...]
    seconds: dict[str, float]

    @property
    def numbers(self) -> dict[str, Any]:
        """The main results by name, as plain JSON."""
        return {
            **{f"{row.name}, hit@1": row.scores["hit@1"] for row in self.rows},
            "student keeps": self.retention,
            "latency of one query in ms": {row.name: row.latency for row in self.rows},
        }


def conclude(
    settings: DemoSettings,
    folders: DemoFolders,
    seconds: Mapping[str, float],
    commands: Sequence[str],
) -> DemoResult:
    """Compare the three models, measure their latency and write the page.

    Args:
        seconds: time of each stage.
        commands: what one would type to run the stages by hand.

    Raises:
        CheckpointError, DataError: a stage's folder was changed or removed since it was made.
        OutputError: the page cannot be written.
    """
    models = {TEACHER: settings.model, CUT: str(folders.cut), STUDENT: str(folders.student)}
    scores = {
        metric: compare([folders.scores(who) for who in models], metric=metric)
        for metric in METRICS
    }
    latency = measure_latency(models, _probe(folders.scenes), settings.device)
    rows = tuple(
        _row(who, model, {m: scores[m].mean.cells[i].score for m in METRICS}, latency[who])
        for i, (who, model) in enumerate(models.items())
    )
    main = scores["hit@1"]
    profile = read_profile(folders.profile)
    kept = main.mean.cells[-1]
    result = DemoResult(
        folder=folders.root,
        student=folders.student,
        search=_search(folders),
        page=folders.page,
        title=_title(settings, main),
        rows=rows,
        retention=kept.retention,
        retention_interval=kept.retention_interval,
        recommended=profile.recommended,
        notes=_notes(main, profile, settings),
        seconds=dict(seconds),
    )
    write_demo_page(folders.page, _page(settings, folders, result, main, profile, commands))
    return result


def _row(who: str, model: str, scores: dict[str, float], latency: float) -> ScoreRow:
    folder = resolve(model)
    tensors = checkpoint_headers(folder)
    decoder = find_decoder(tensors)
    return ScoreRow(
        name=NAMES[who],
        layers=decoder.depth,
        scores=scores,
        parameters=sum(parameters_by_part(decoder, tensors).values()),
        latency=latency,
        disk=bytes_on_disk(folder),
    )


def _probe(scenes: Path) -> Input:
    """Return the test query that latency is measured on."""
    data = MbeirFolder(scenes)
    task = next(task for task in data.tasks("test") if task.task_id == _LATENCY_TASK)
    query = data.queries("test", task)[0]
    return query.to_input(data.instructions.pick(query, "first"))


def _search(folders: DemoFolders) -> str:
    """Return a command that asks the student for the picture of a scene."""
    data = MbeirFolder(folders.scenes)
    task = next(task for task in data.tasks("test") if task.task_id == 0)
    query = data.queries("test", task)[0]
    words = ["puma", "search", folders.student, query.text, "--index", folders.index]
    words += ["--instruction", data.instructions.pick(query, "first")]
    words += ["--html", folders.root / "found.html"]
    return shlex.join(map(str, words))


def _title(settings: DemoSettings, comparison: Comparison) -> str:
    title = f"{settings.model} on scenes, test: mean of {len(comparison.rows)} tasks"
    return f"{title}, on the fast demo's small pools" if settings.fast else title


def _notes(
    comparison: Comparison, profile: LayerProfile, settings: DemoSettings
) -> tuple[str, ...]:
    _, cut, student = comparison.mean.cells
    points = 100 * (student.score - cut.score)
    notes = [
        f"The student keeps {_kept(student)} of the full model's hit@1, "
        f"{points:+.1f} points to the same cut untrained, which keeps {_kept(cut)}.",
    ]
    expected = _expected(profile, settings.keep)
    if expected:
        notes.append(
            f"The profile had predicted, before any training, that it would keep {expected}."
        )
    same = profile.layers == tuple(range(settings.keep))
    notes.append(
        f"{f'To keep {TARGET:.0%}, the' if expected else 'The'} profile recommends "
        f"{profile.recommended} layers{', the last among them' * profile.choice.keep_last}"
        f"{' too' * same}; the demo keeps the first {settings.keep} of {profile.depth}."
    )
    if settings.fast:
        notes.append(
            "This was the fast demo: little training, few queries, small pools. "
            "`puma demo` without --fast gives the numbers to go by."
        )
    return tuple(notes)


def _expected(profile: LayerProfile, k: int) -> str:
    """Return what the student is predicted to keep, or nothing if that is unknown."""
    if profile.prediction is None:
        return ""
    found = profile.prediction.kept[PLAIN]
    share, low, high = found.share[k], found.low[k], found.high[k]
    if share is None or low is None or high is None:
        return ""
    return f"{share:.1%} (95% interval {low:.1%} to {high:.1%})"


def _kept(cell: Cell) -> str:
    if cell.retention is None:
        return "nothing measurable"
    if cell.retention_interval is None:
        return f"{cell.retention:.1%}"
    low, high = cell.retention_interval
    return f"{cell.retention:.1%} (95% interval {low:.1%} to {high:.1%})"


def _page(
    settings: DemoSettings,
    folders: DemoFolders,
    result: DemoResult,
    comparison: Comparison,
    profile: LayerProfile,
    commands: Sequence[str],
) -> DemoPage:
    teacher, _, student = result.rows
    headline = (
        f"With {student.layers} of {teacher.layers} layers, the student scores "
        f"{student.scores['hit@1']:.1%} hit@1 where the full model scores "
        f"{teacher.scores['hit@1']:.1%}."
    )
    minutes = sum(result.seconds.values()) / 60
    drawings = {
        "tasks": ("Task by task", plot_scores(comparison, [row.name for row in result.rows])),
        "readout": ("Where to cut", plot_readout(profile, cut=settings.keep)),
    }
    captions = {
        "tasks": "hit@1 of each task in its own pool; the whiskers are 95% bootstrap intervals.",
        "readout": "Measured on val before any training; a bridge is a linear head, fitted in "
        f"closed form. The bands are 95% intervals. {profile.reason}",
    }
    return DemoPage(
        title="puma demo",
        subtitle=result.title,
        headline=headline,
        summary=result.notes,
        rows=result.rows,
        marked=len(result.rows) - 1,
        score_note=(
            "Local pools. One query, text and image, from file to vector: median on "
            f"{platform.machine()}, device {choose_device(settings.device)}. Seed {settings.seed}; "
            f"the stages took {minutes:.1f} minutes."
        ),
        figures=[
            (title, Drawing(to_svg(drawing, name, title), captions[name]))
            for name, (title, drawing) in drawings.items()
        ],
        examples=pick_examples(folders.scenes, {NAMES[who]: folders.scores(who) for who in NAMES}),
        example_note=HOW,
        commands=commands,
        next_command=result.search,
    )
