"""The model card of a trained folder."""

from __future__ import annotations

from pathlib import Path

from puma_cli.checkpoint.card import write_card
from puma_cli.checkpoint.inspection import say_layers
from puma_cli.checkpoint.provenance import Provenance
from puma_cli.checkpoint.safetensors_header import checkpoint_headers
from puma_cli.config.settings import FRESH, NO_TEACHER, DistillSettings
from puma_cli.models.usage import usage_of
from puma_cli.report.numbers import count


def write_student_card(
    folder: Path, settings: DistillSettings, provenance: Provenance, step: int
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
    score = provenance.results["validation_hit@1"]
    if score is not None:
        facts.append(("best validation hit@1 of the training", f"{score:.1%}"))
    facts += [
        (parent.role, f"{parent.name}, {parent.fingerprint}") for parent in provenance.parents
    ]
    write_card(
        folder,
        settings.output_dir.name,
        summary=f"A multimodal embedder, {start}, trained by puma{teacher}.",
        facts=facts,
        usage=usage_of(folder),
    )


def _loss(settings: DistillSettings, taught: bool) -> str:
    loss = settings.loss
    weights = {loss.contrastive: loss.contrastive_weight}
    if taught:
        weights |= {"mse": loss.mse, "cosine": loss.cosine, "similarity": loss.similarity}
    terms = [f"{weight:g} x {name}" for name, weight in weights.items() if weight]
    return f"{' + '.join(terms)}, temperature {loss.temperature:g}"
