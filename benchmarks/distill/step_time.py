"""A training step against the reference design: time beside counted FLOPs, and resident weights.

    python benchmarks/distill/step_time.py --data runs/scenes --write step-time.md

The reference is written out plainly: two copies of the model, the teacher asked at every step, the
batch padded to its longest input and computed at once. Beside it, in one process and by turns, the
same losses with one copy (`shared`), with the teacher's embeddings read beforehand (`cached`), and
with a student of its own that trains whole (`full`, against a reference that does the same). The
model has random weights; what counts is its shape, in which the decoder's layers dominate.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from wide_model import write_wide_model

from puma_cli import PruneSettings, prune
from puma_cli.config.lora_settings import LoraSettings
from puma_cli.config.training_settings import (
    BatchSettings,
    LossSettings,
    OptimizerSettings,
    TrainSettings,
)
from puma_cli.data.batches import BatchOrder
from puma_cli.data.examples import ContrastiveBatch, Examples
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.distillation.objective import Embeddings, Objective
from puma_cli.distillation.optimizer import build_optimizer
from puma_cli.distillation.pair import Pair
from puma_cli.distillation.step import Step
from puma_cli.distillation.teacher_cache import TeacherCache
from puma_cli.interruption import StopRequest
from puma_cli.models.embedder import Embedder
from puma_cli.models.opening import load
from puma_cli.profiling.cost.flops import ForwardFlops, count_flops, count_sizes
from puma_cli.progress import SILENT

LIMIT = 1.05
LOSS = LossSettings(contrastive_weight=0.9, mse=0.005)


@dataclass(frozen=True)
class Way:
    """One way to take a step: what it does, its counted FLOPs, and its resident weights."""

    name: str
    step: Callable[[ContrastiveBatch], float]
    flops: float
    weights: int


def main() -> None:
    """Take steps by turns and print the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--keep", type=int, default=12)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        groups = [group(asked, Path(folder), rank) for rank in (asked.rank, 0)]
    page = report(asked, groups)
    if asked.write:
        asked.write.write_text(page, encoding="utf-8")
    print(page)


def group(asked: argparse.Namespace, root: Path, rank: int) -> list[tuple[Way, list[float]]]:
    """Return the ways of one kind of training, the reference first, each with its seconds."""
    model, cut = root / "model", root / "cut"
    if not model.exists():
        write_wide_model(model, asked.width, asked.layers)
    if not cut.exists():
        prune(PruneSettings(str(model), cut, keep=asked.keep, verify="none"))
    data = MbeirFolder(asked.data)
    queries = data.train_queries("*")
    order = BatchOrder(queries, asked.batch, "mixed", seed=0)
    examples = Examples(queries, data.union_pool("train"), data.instructions, "first", 0)
    batches = [examples.batch(order.batch(number)[1], 0) for number in range(asked.rounds + 1)]
    lora = LoraSettings(rank=rank, alpha=2 * max(1, rank), dropout=0.0)
    makers = [reference, *((shared, cached) if rank else (cached,))]
    ways = [make(asked, model, cut, lora, batches, root) for make in makers]
    found: list[tuple[Way, list[float]]] = [(way, []) for way in ways]
    for number, batch in enumerate(batches):
        shift = number % len(found)
        for way, seconds in found[shift:] + found[:shift]:
            spent = way.step(batch)
            if number:
                seconds.append(spent)
    return found


def reference(
    asked: argparse.Namespace,
    model: Path,
    cut: Path,
    lora: LoraSettings,
    batches: Sequence[ContrastiveBatch],
    root: Path,
) -> Way:
    """Two whole copies, each with its own vision pass, on a batch padded to its longest input."""
    teacher, student = load(model, asked.device, "float32"), load(cut, asked.device, "float32")
    teacher.model.requires_grad_(False)
    pair = Pair(student, None, None, lora, TrainSettings())
    # As it would be without knowing that the tower is frozen: seen anew at every step.
    pair.model.train()
    objective = Objective(LOSS)
    optimizer = build_optimizer(pair.model, OptimizerSettings())

    def step(batch: ContrastiveBatch) -> float:
        began = time.perf_counter()
        tensors = student.collate(batch.inputs).to(student.device)
        ours = student.embed(tensors)
        with torch.no_grad():
            theirs = teacher.embed(tensors)
        sides = [Embeddings.of(rows, len(batch.queries)) for rows in (ours, theirs)]
        loss, _ = objective(sides[0], sides[1], batch.labels.to(student.device), 0.0)
        loss.backward()
        nn.utils.clip_grad_norm_(pair.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        wait(asked.device)
        return time.perf_counter() - began

    forward, adapters = counted(student, batches, lora.rank)
    teacher_forward, _ = counted(teacher, batches, 0)
    flops = (
        training_flops(forward, adapters, asked.keep, lora.rank)
        + forward.vision
        + teacher_forward.at(asked.layers)
    )
    held = resident(teacher.model, student.model)
    return Way("reference: two copies", step, flops, held)


def shared(
    asked: argparse.Namespace,
    model: Path,
    cut: Path,
    lora: LoraSettings,
    batches: Sequence[ContrastiveBatch],
    root: Path,
) -> Way:
    """One copy of the weights for both, one look at the images."""
    teacher, student = load(model, asked.device, "float32"), load(cut, asked.device, "float32")
    pair = Pair(student, teacher, list(range(asked.keep)), lora, TrainSettings())
    assert pair.shared
    forward, adapters = counted(teacher, batches, lora.rank)
    flops = training_flops(forward, adapters, asked.keep, lora.rank) + forward.at(asked.layers)
    held = resident(pair.embedder.model)
    del student
    return Way("shared: one copy", puma_step(asked, pair, None), flops, held)


def cached(
    asked: argparse.Namespace,
    model: Path,
    cut: Path,
    lora: LoraSettings,
    batches: Sequence[ContrastiveBatch],
    root: Path,
) -> Way:
    """The teacher has read everything beforehand and is gone."""
    student = load(cut, asked.device, "float32")
    pair = Pair(student, None, None, lora, TrainSettings())
    inputs = list(dict.fromkeys(entry for batch in batches for entry in batch.inputs))
    cache = TeacherCache(root / "teacher", inputs, "random", verify=False)
    assert cache.fill(lambda: load(model, asked.device, "float32"), SILENT, StopRequest())
    forward, adapters = counted(student, batches, lora.rank)
    flops = training_flops(forward, adapters, asked.keep, lora.rank) + forward.vision
    name = "cached teacher" + ("" if lora.rank else ", all weights train")
    return Way(name, puma_step(asked, pair, cache), flops, resident(pair.embedder.model))


def puma_step(
    asked: argparse.Namespace, pair: Pair, cache: TeacherCache | None
) -> Callable[[ContrastiveBatch], float]:
    """Return a step as `puma distill` takes it, reading the batch included."""
    objective = Objective(LOSS)
    optimizer = build_optimizer(pair.model, OptimizerSettings())
    accelerator = Accelerator(cpu=asked.device == "cpu")
    gradients = Step(pair, objective, accelerator, BatchSettings(), cache)
    pair.model.train()

    def step(batch: ContrastiveBatch) -> float:
        began = time.perf_counter()
        gradients.backward(gradients.prepare(batch), progress=0.0)
        nn.utils.clip_grad_norm_(pair.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        wait(asked.device)
        return time.perf_counter() - began

    return step


def counted(
    embedder: Embedder, batches: Sequence[ContrastiveBatch], rank: int
) -> tuple[ForwardFlops, float]:
    """Return the mean forward FLOPs of an input of the batches, and those of a layer's adapters."""
    tensors = embedder.collate([entry for batch in batches for entry in batch.inputs])
    tokens, patches = count_sizes(tensors)
    bare = count_flops(embedder.model, tokens, patches)
    if not rank:
        return bare, 0.0
    linears = [part for part in embedder.decoder.layers[0].modules() if is_linear(part)]
    sides = sum(sum(base_weight(part).shape) for part in linears)
    return bare, 2.0 * rank * sides * statistics.fmean(tokens)


def is_linear(part: nn.Module) -> bool:
    """Tell whether a module is a linear of the model, with adapters around it or without."""
    return type(part) is nn.Linear and min(part.weight.shape) > 64


def base_weight(part: nn.Module) -> Tensor:
    """Return a linear's weight."""
    weight: Any = part.weight
    return weight


def training_flops(forward: ForwardFlops, adapters: float, keep: int, rank: int) -> float:
    """Return a student's FLOPs forward and back an input, its vision pass left out.

    Back through a layer costs as much as forward where its weights are frozen, and twice as much
    where they train; the adapters train.
    """
    layers = keep * forward.layer * (2 if rank else 3)
    return layers + 3 * keep * adapters


def resident(*models: nn.Module) -> int:
    """Return the bytes of all distinct weights, adapters left out."""
    found = {
        value.data_ptr(): value.nbytes
        for model in models
        for name, value in model.named_parameters()
        if "lora_" not in name
    }
    return sum(found.values())


def wait(device: str) -> None:
    """Let the device come to the end of its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def report(asked: argparse.Namespace, groups: Sequence[Sequence[tuple[Way, list[float]]]]) -> str:
    """Return the page."""
    place = torch.cuda.get_device_name() if asked.device == "cuda" else platform.machine()
    lines = [
        "# A step against the reference design",
        "",
        f"Command: `python benchmarks/distill/step_time.py --data {asked.data.name} "
        f"--width {asked.width} --layers {asked.layers} --keep {asked.keep} --rank {asked.rank} "
        f"--batch {asked.batch} --rounds {asked.rounds}`. Machine: {place}, "
        f"{torch.get_num_threads()} CPU threads, torch {torch.__version__.partition('+')[0]}.",
        "",
        "Ratios are to the reference of the same training: medians of those of the same batch, the "
        "ways by turns.",
        "",
        "| training | way | seconds | time ratio | counted ratio | limit | weights, MiB | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for rank, found in zip((asked.rank, 0), groups, strict=True):
        base, base_seconds = found[0]
        for way, seconds in found:
            ratios = [own / other for own, other in zip(seconds, base_seconds, strict=True)]
            flops = way.flops / base.flops
            limit = "" if way is base else f"{LIMIT * flops:.3f}"
            lines.append(
                f"| {f'LoRA {rank}' if rank else 'full'} | {way.name} | "
                f"{statistics.median(seconds):.2f} | {statistics.median(ratios):.3f} | {flops:.3f} "
                f"| {limit} | {way.weights / 2**20:,.0f} | {way.weights / base.weights:.3f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
