"""How far plain transformers is from puma on an exported folder."""

from __future__ import annotations

from pathlib import Path

from puma_cli.exporting.loaders import with_transformers
from puma_cli.exporting.parity.check import compare_answers, plain_batch
from puma_cli.exporting.parity.probes import probe_batches
from puma_cli.models.embedder import Embedder


def worst_difference(folder: Path, model: Embedder, scratch: Path) -> float:
    """Return the largest |a - b| / |b| on all probes."""
    scratch.mkdir()
    batches = probe_batches(scratch, model.settings.sees)
    request = {
        "folder": str(folder),
        "batches": {name: plain_batch(batch) for name, batch in batches.items()},
    }
    answers = with_transformers.answer(request)
    return max(case.difference for case in compare_answers(model, batches, answers))
