"""Logs of trainings, short and long, plain and with everything."""

from __future__ import annotations

import math
from typing import Any

from puma_cli.checkpoint.provenance import Parent, Provenance
from puma_cli.data.records import MODALITIES
from puma_cli.distillation.log import Row
from puma_cli.report.training_history import TrainingHistory

SETTINGS: dict[str, Any] = {
    "student": "pruned",
    "teacher": "puma-mini",
    "data": "scenes",
    "output_dir": "out/student",
    "batch.size": 48,
    "loss.contrastive": "mac",
    "loss.contrastive_weight": 0.5,
    "loss.cosine": 5.0,
    "loss.similarity": 1.0,
}
PARENTS = tuple(Parent(role, f"my {role}", f"sha256:{role}") for role in ("student", "data"))


def provenance() -> Provenance:
    """Return what a finished training wrote of itself."""
    results = {"progress": {"seconds": 255.0}, "device": "cpu (x86_64, 2 threads)"}
    nested = {"student": "pruned", "data": "scenes", "loss": {"cosine": 5.0}, "batch": {"size": 48}}
    return Provenance(
        "distill", nested, PARENTS, [0, 1, 2, 3], 0, {"torch": "2.13"}, "2026", results
    )


def training(
    steps: int = 200,
    every: int = 50,
    tasks: int = 3,
    teacher: bool = True,
    tables: bool = False,
    finished: bool = True,
) -> TrainingHistory:
    """Return a training whose loss falls and whose hit@1 rises to its best before the last step.

    Args:
        steps: steps that it has come to.
        every: steps between two validations, or 0 for none.
        tasks: their number.
        teacher: whether the teacher was scored.
        tables: whether nine temperatures move.
        finished: whether it came to its end.
    """
    names = [f"scenes_task{number}" for number in range(tasks)]
    full = {name: 0.9 - 0.05 * (number % 9) for number, name in enumerate(names)}
    rows: list[Row] = [_hits(0, "teacher_hit@1", full, 1.0)] if teacher else []
    for step in range(1, steps + 1):
        share = step / steps
        if step in (1, steps) or step % 10 == 0:
            rows.append({"step": step, **_values(share, tables), "seconds": 0.3 * step})
        if every and step % every == 0:
            found = _hits(step, "validation_hit@1", full, 0.99 - 0.5 * abs(0.75 - share))
            rows.append(found)
    return TrainingHistory("student", rows, SETTINGS, provenance() if finished else None)


def _hits(step: int, name: str, full: dict[str, float], factor: float) -> Row:
    tasks = {f"{name} {task}": factor * hit for task, hit in full.items()}
    return {"step": step, name: sum(tasks.values()) / len(tasks), **tasks}


def _values(share: float, tables: bool) -> Row:
    wave = 1 + 0.1 * math.sin(40 * share)
    mac, cosine, similarity = (
        height * math.exp(-3 * share) * wave + 0.1 for height in (2.5, 1.2, 0.8)
    )
    temperatures = {
        f"temperature {query} > {candidate}": 0.05 - 0.004 * share * (i + 3 * j)
        for i, query in enumerate(MODALITIES)
        for j, candidate in enumerate(MODALITIES)
    }
    return {
        "loss": 0.5 * mac + 5 * cosine + similarity,
        "mac": mac,
        "masked": 0.001 * wave,
        "cosine": cosine,
        "similarity": similarity,
        "gradient_norm": 3 * math.exp(-2 * share) * wave,
        "learning_rate": 1e-3 * (1 - share),
        "accuracy": 0.95 * share,
        "intra": 0.96 * share,
        "inter": 0.5 + 0.5 * share,
        **(temperatures if tables else {"temperature": 0.05}),
        **({"sharpening": math.exp(-min(0.5, share))} if tables else {}),
        "pairs_per_second": 140 * wave,
        "tokens_per_second": 12_300 * wave,
        "seconds_left": 60 * (1 - share),
        "memory_bytes": 1.2e9 + 1e8 * share,
    }
