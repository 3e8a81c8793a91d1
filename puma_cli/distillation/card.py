"""The model card of a trained folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.card import markdown_table, write_card
from puma_cli.checkpoint.inspection import say_layers
from puma_cli.checkpoint.layout import TRAINING_PLOT
from puma_cli.checkpoint.provenance import Provenance
from puma_cli.checkpoint.safetensors_header import checkpoint_headers
from puma_cli.config.training_settings import FRESH, NO_TEACHER, DistillSettings
from puma_cli.models.usage import usage_of
from puma_cli.report.numbers import count, duration, share
from puma_cli.report.training_history import TrainingHistory
from puma_cli.report.training_page import write_training_plot
from puma_cli.report.training_tables import score_headers, score_rows


def write_student_card(
    folder: Path,
    settings: DistillSettings,
    provenance: Provenance,
    history: TrainingHistory,
    step: int,
) -> None:
    """Write the README.md of a trained model whose weights are those after `step` steps."""
    taught = settings.teacher != NO_TEACHER and settings.loss.needs_teacher
    fresh = settings.student == FRESH
    start = "newly initialised" if fresh else f"started from {settings.student}"
    teacher = f", taught by {settings.teacher}" if taught else ", without a teacher"
    parameters = sum(tensor.parameters for tensor in checkpoint_headers(folder).values())
    facts = [
        ("data", f"{settings.data.name}, {step:,} steps of {settings.batch.size} queries"),
        ("loss", _loss(settings, taught)),
        ("parameters", count(parameters)),
        ("seed", str(settings.seed)),
    ]
    if provenance.kept_layers is not None:
        facts.append(("decoder layers of the teacher", say_layers(provenance.kept_layers)))
    facts += [
        (f"stage before: {stage['name']}", _stage(stage)) for stage in provenance.earlier_stages
    ]
    facts += _scores(history)
    facts += [
        (parent.role, f"{parent.name}, {parent.fingerprint}") for parent in provenance.parents
    ]
    write_card(
        folder,
        settings.output_dir.name,
        summary=f"A multimodal embedder, {start}, trained by puma{teacher}.",
        facts=facts,
        usage=usage_of(folder),
        more=[_training(folder, provenance, history, step), _recipe(history)],
    )


def _loss(settings: DistillSettings, taught: bool) -> str:
    loss = settings.loss
    weights = {loss.contrastive: loss.contrastive_weight}
    if taught:
        weights |= {
            "mse": loss.mse,
            "cosine": loss.cosine,
            "similarity": loss.similarity,
            "gram": loss.gram,
        }
    terms = [f"{weight:g} x {name}" for name, weight in weights.items() if weight]
    return f"{' + '.join(terms)}, temperature {loss.temperature:g}"


def _stage(stage: Mapping[str, Any]) -> str:
    """Return what an earlier one of several trainings in a row was."""
    settings = stage["settings"]
    taught = settings["teacher"] != NO_TEACHER
    teacher = f"taught by {settings['teacher']}" if taught else "without a teacher"
    steps = stage["results"]["progress"]["best_step"]
    return f"{Path(settings['data']).name}, {steps:,} steps from {settings['student']}, {teacher}"


def _scores(history: TrainingHistory) -> list[tuple[str, str]]:
    if history.best is None:
        return []
    step, score = history.best
    facts = [("best validation hit@1 of the training", f"{score:.1%} at step {step:,}")]
    if history.teacher:
        kept = f"{share(score, history.teacher)} of {history.teacher:.1%}"
        facts.append(("of the teacher's on the same queries", kept))
    return facts


def _training(folder: Path, provenance: Provenance, history: TrainingHistory, step: int) -> str:
    """Return how long and on what it was trained, with the picture and the scores by task."""
    seconds = provenance.results["progress"]["seconds"]
    paragraphs = [
        f"## Training\n\n{history.steps:,} steps in {duration(seconds)} on "
        f"{provenance.results['device']}; these are the weights after {step:,}."
    ]
    if _is_drawn(folder, history):
        paragraphs.append(f"![Loss and validation by step]({TRAINING_PLOT})")
    rows = score_rows(history, step)
    if rows:
        limit = history.setting("train.validation_limit")
        paragraphs.append(
            f"On up to {limit} validation queries of each task, by which the best step was chosen:"
        )
        paragraphs.append(markdown_table(score_headers(history), rows))
    return "\n\n".join(paragraphs)


def _recipe(history: TrainingHistory) -> str:
    """Return the settings to train it again, as `--set` takes them."""
    rows = [(f"`{name}`", value, default) for name, value, default in history.changes()]
    if not rows:
        return "## Recipe\n\nAll settings are the defaults of `puma distill`."
    return f"## Recipe\n\n{markdown_table(('setting', 'value', 'default'), rows)}"


def _is_drawn(folder: Path, history: TrainingHistory) -> bool:
    try:
        write_training_plot(history, folder)
    # A finished training is not kept back for want of its picture.
    except Exception:
        return False
    return True
