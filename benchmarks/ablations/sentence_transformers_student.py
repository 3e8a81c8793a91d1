"""Train an exported cut with sentence-transformers' losses, on the batches that puma draws.

    puma export cut --format sentence-transformers -o exported
    python benchmarks/ablations/sentence_transformers_student.py --model exported \\
        --teacher puma-mini --data scenes --config benchmarks/ablations/recipes/scenes.yaml \\
        --seed 0 --output-dir student

The contrastive term is CachedMultipleNegativesRankingLoss, in both directions if the recipe says
`symmetric`; the teacher's is EmbedDistillLoss with the cosine, both columns; with the recipe's
weights, optimizer, schedule and number of steps. Encoding, padding and the gradient cache are
sentence-transformers' own. The teacher's embeddings are computed before the first step by puma, as
that loss wants them. The result is a folder that puma can score, with `took.json`: seconds without
and with the teacher's, and pairs a second.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentence_transformers
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    EmbedDistillLoss,
)
from torch import Tensor

from puma_cli.config.loading import load_settings
from puma_cli.config.training_settings import NO_TEACHER, DistillSettings
from puma_cli.data.examples import ContrastiveBatch
from puma_cli.data.training_data import open_training_data
from puma_cli.distillation.optimizer import build_optimizer, learning_rate
from puma_cli.distillation.preparation import plan_steps
from puma_cli.models.devices import choose_device
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load

# Inputs that the teacher reads at once, and pairs that the student does.
READ, MINI_BATCH = 128, 32
# What these losses can do of a recipe's; other terms would be left out in silence.
UNKNOWN = ("mse", "similarity", "gram", "bank", "hints")


def main() -> None:
    """Train one student."""
    asked = _parse()
    settings = load_settings(
        DistillSettings,
        config=asked.config,
        overrides=asked.set,
        flags={
            "student": asked.model,
            "teacher": asked.teacher,
            "data": asked.data,
            "output_dir": asked.output_dir,
            "seed": asked.seed,
            "device": asked.device,
        },
    )
    left_out = [name for name in UNKNOWN if getattr(settings.loss, name)]
    if left_out or settings.loss.contrastive != "info_nce" or settings.lora.rank:
        raise SystemExit(f"There is no counterpart here of loss.{', '.join(left_out) or 'mac'}.")
    device = choose_device(settings.device)
    torch.manual_seed(settings.seed)
    data = open_training_data(settings)
    order, examples, steps = plan_steps(settings, data)
    batches = []
    for number in range(steps):
        epoch, indices = order.batch(number)
        batches.append(examples.batch(indices, epoch))
    began = time.monotonic()
    taught = teach(settings.teacher, batches, device) if settings.teacher != NO_TEACHER else {}
    teaching = time.monotonic() - began
    model = SentenceTransformer(asked.model, device=str(device),
                                model_kwargs={"dtype": torch.float32})  # fmt: skip
    _freeze(model)
    losses = losses_of(model, settings)
    optimizer = build_optimizer(model, settings.optimizer)
    model.train()
    began = time.monotonic()
    for step, batch in enumerate(batches):
        rate = learning_rate(step, steps, settings.optimizer)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        add_gradients(model, losses, batch, taught)
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.optimizer.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 10 == 0 or step + 1 == steps:
            spent = time.monotonic() - began
            print(f"step {step + 1}/{steps}, {spent:.0f} s", flush=True)
    seconds = time.monotonic() - began
    model.save_pretrained(str(asked.output_dir), create_model_card=False)
    found = {
        "steps": steps,
        "batch": settings.batch.size,
        "train_seconds": round(seconds + teaching, 1),
        "teacher_seconds": round(teaching, 1),
        "pairs_per_second": round(steps * settings.batch.size / (seconds + teaching), 2),
        "trained_by": f"sentence-transformers {sentence_transformers.__version__}",
    }
    (asked.output_dir / "took.json").write_text(json.dumps(found), encoding="utf-8")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="an exported cut")
    parser.add_argument("--teacher", default=NO_TEACHER)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output-dir", type=Path, required=True)
    return parser.parse_args()


@torch.no_grad()
def teach(
    teacher: str, batches: Sequence[ContrastiveBatch], device: torch.device
) -> dict[Input, Tensor]:
    """Return the teacher's embedding of every distinct input, each (D,) on the CPU."""
    embedder = load(teacher, str(device))
    inputs = list(dict.fromkeys(entry for batch in batches for entry in batch.inputs))
    found = embedder.encode(inputs, READ)
    return dict(zip(inputs, found, strict=True))


def _freeze(model: SentenceTransformer) -> None:
    """Freeze what the recipes freeze: images and token embeddings."""
    for name, value in model.named_parameters():
        if "visual" in name or "embed_tokens" in name:
            value.requires_grad_(False)


def losses_of(
    model: SentenceTransformer, settings: DistillSettings
) -> list[tuple[float, torch.nn.Module, bool]]:
    """Return weight, loss, and whether it is the teacher's."""
    loss = settings.loss
    directions: Any = ("query_to_doc", "doc_to_query") if loss.symmetric else ("query_to_doc",)
    # Apart, the mean of the two is taken, as puma does.
    found: list[tuple[float, torch.nn.Module, bool]] = []
    if loss.contrastive_weight:
        contrast = CachedMultipleNegativesRankingLoss(
            model,
            scale=1 / loss.temperature,
            mini_batch_size=MINI_BATCH,
            directions=directions,
            partition_mode="per_direction" if loss.symmetric else "joint",
        )
        found.append((loss.contrastive_weight, contrast, False))
    if loss.cosine:
        # Puma adds up both sides, of which this loss takes the mean.
        found.append((2 * loss.cosine, EmbedDistillLoss(model, distance_metric="cosine"), True))
    return found


def add_gradients(
    model: SentenceTransformer,
    losses: Sequence[tuple[float, torch.nn.Module, bool]],
    batch: ContrastiveBatch,
    taught: dict[Input, Tensor],
) -> float:
    """Add the gradients of a batch, and return its loss."""
    total = 0.0
    positives = [batch.candidates[column] for column in batch.labels.target.tolist()]
    columns = [batch.queries, positives]
    features = [_on(model, dict(model.preprocess([shown(i) for i in each]))) for each in columns]
    for weight, loss, is_taught in losses:
        labels = None
        if is_taught:
            sides = [torch.stack([taught[entry] for entry in each]) for each in columns]
            labels = torch.stack(sides, dim=1)
        # A forward pass adds its results to the features that it is given.
        value = weight * loss([dict(each) for each in features], labels)
        value.backward()
        total += float(value.detach())
    return total


def _on(model: SentenceTransformer, features: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.to(model.device) if torch.is_tensor(value) else value
        for name, value in features.items()
    }


def shown(entry: Input) -> Any:
    """Return an input as sentence-transformers takes it, its instruction a line above its text."""
    lines = [line for line in (entry.instruction, entry.text) if line]
    if entry.image is None:
        return "\n".join(lines)
    with Image.open(entry.image) as file:
        picture = file.convert("RGB")
    return {"image": picture, "text": "\n".join(lines)} if lines else picture


if __name__ == "__main__":
    main()
