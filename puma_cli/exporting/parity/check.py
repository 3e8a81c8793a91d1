"""Proof that an exported folder gives puma's vectors where puma was never heard of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize

from puma_cli.errors import VerificationError
from puma_cli.exporting.parity.probes import ProbeBatch, probe_batches
from puma_cli.models.embedder import Embedder
from puma_cli.models.modes import evaluation_mode

# Largest |a - b| / |b| in float32: on the same batch with the same padding, and otherwise.
SAME_BATCH, OTHER_BATCH = 1e-6, 2e-5
_PATIENCE = 3600  # seconds
_SCRIPTS = {
    "transformers": "with_transformers.py",
    "sentence-transformers": "with_sentence_transformers.py",
}


@dataclass(frozen=True)
class Case:
    """One batch in which vectors were compared.

    Args:
        name: what was embedded, and how.
        difference: largest |a - b| / |b| of a vector.
        bound: the most that it may be.
    """

    name: str
    difference: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the difference is rounding; not a number is none."""
        return self.difference <= self.bound


@dataclass(frozen=True)
class ExportParity:
    """The comparison of an exported folder with its model.

    Args:
        loader: what opened the folder, with its version.
        cases: what was compared; none if the loader could not be had.
        unchecked: why nothing was compared, or an empty string.
    """

    loader: str
    cases: tuple[Case, ...] = ()
    unchecked: str = ""

    @property
    def worst(self) -> float:
        """The largest difference."""
        return max((case.difference for case in self.cases), default=0.0)


def check_export(
    folder: Path, embedder: Embedder, loader: str, opened: Path | None = None
) -> ExportParity:
    """Compare the vectors of an exported folder, opened by a stock loader, with the model's own.

    Args:
        embedder: the model that was exported, in float32, its weights rounded as the export's are.
        loader: `transformers` or `sentence-transformers`.
        opened: the folder that the loader opens in place of `folder`.

    Raises:
        VerificationError: they differ by more than rounding, or the folder does not open.
    """
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        batches = probe_batches(scratch, hasattr(embedder.model, "visual"))
        answers, version, why = _ask(opened or folder, loader, batches, scratch)
        if answers is None:
            return ExportParity(loader, unchecked=why)
        cases = compare_answers(embedder, batches, answers)
    for case in cases:
        if not case.holds:
            raise VerificationError(
                f"{loader} makes other vectors of the export than puma of the model.",
                cause=f"They differ by {case.difference:.1e} of their length on {case.name}; "
                f"{case.bound:.0e} would be rounding.",
                hint="Please report the model; --no-verify writes the folder all the same.",
            )
    return ExportParity(f"{loader} {version}", cases)


def _ask(
    folder: Path, loader: str, batches: Mapping[str, ProbeBatch], scratch: Path
) -> tuple[dict[str, Tensor] | None, str, str]:
    """Return a loader's vectors and version, or why it cannot be asked."""
    request, answers = scratch / "request.json", scratch / "answers.safetensors"
    content = {
        "folder": str(folder.resolve()),
        "answers": str(answers),
        "batches": {name: plain_batch(batch) for name, batch in batches.items()},
    }
    request.write_text(json.dumps(content), encoding="utf-8")
    script = Path(__file__).parent.parent / "loaders" / _SCRIPTS[loader]
    done = subprocess.run(
        [sys.executable, script, request],
        capture_output=True,
        text=True,
        cwd=scratch,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        timeout=_PATIENCE,
        check=False,
    )
    if done.returncode == 0:
        with safe_open(answers, "pt") as file:
            version = str((file.metadata() or {}).get(loader, ""))
        return load_file(answers), version, ""
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    why = _missing(done.stderr, loader)
    if why:
        return None, "", why
    raise VerificationError(
        f"{loader} does not open the export.",
        cause=lines[-1],
        hint="Please report the model; --no-verify writes the folder all the same.",
    )


def _missing(said: str, loader: str) -> str:
    """Return what a loader lacks to run at all, or an empty string."""
    package = loader.replace("-", "_")
    if f"No module named '{package}'" in said:
        return f"{loader} is not installed"
    if "torchvision" in said.lower():
        return f"{loader} reads images of this model with torchvision, which is not here or broken"
    return ""


def plain_batch(batch: ProbeBatch) -> dict[str, Any]:
    """Return a batch as a request has it."""
    inputs = [
        {
            "text": entry.text,
            "image": None if entry.image is None else str(entry.image),
            "prompt": entry.instruction,
        }
        for entry in batch.inputs
    ]
    return {"inputs": inputs, "left": batch.left}


@torch.no_grad()
def compare_answers(
    embedder: Embedder, batches: Mapping[str, ProbeBatch], answers: Mapping[str, Tensor]
) -> tuple[Case, ...]:
    """Return how far a loader's vectors are from the model's own, batch by batch."""
    with evaluation_mode(embedder.model):
        # What is embedded alone, or padded on the left, is compared with the batch of all.
        whole = {
            entry: vector
            for batch in batches.values()
            if batch.exact
            for entry, vector in zip(batch.inputs, _vectors(embedder, batch).double(), strict=True)
        }
    cases = []
    for name, batch in batches.items():
        ours = torch.stack([whole[entry] for entry in batch.inputs])
        theirs = answers[name].double()
        difference = float("inf")
        if theirs.shape == ours.shape:
            difference = float(((theirs - ours).norm(dim=1) / ours.norm(dim=1)).max())
        cases.append(Case(name, difference, SAME_BATCH if batch.exact else OTHER_BATCH))
    return tuple(cases)


def _vectors(embedder: Embedder, batch: ProbeBatch) -> Tensor:
    collated = embedder.collate(list(batch.inputs)).to(embedder.device)
    # All that a stock loader computes, what nobody reads included: its last digits differ else.
    states = embedder.apply_head(embedder.post_norm_states(collated)).float().cpu()
    return normalize(states, dim=-1) if embedder.settings.normalize else states
