"""Gradients of some batches, by one process or by several that were started together.

    python -m tests.distillation.shared_steps CHECKPOINT SCENES OUTPUT

writes the mean gradients of every case to OUTPUT.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor

from puma_cli.config.lora_settings import LoraSettings
from puma_cli.config.training_settings import BatchSettings, LossSettings, TrainSettings
from puma_cli.data.examples import ContrastiveBatch, Examples
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.distillation.gradients import average_gradients, clip_gradients, whole_tensor
from puma_cli.distillation.objective import Objective
from puma_cli.distillation.pair import Pair
from puma_cli.distillation.step import Step
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from puma_cli.models.processing import Batch
from puma_cli.processes import Processes, join

CONTRAST = LossSettings("mac", symmetric=True, learn_temperature=True)
TAUGHT = replace(CONTRAST, mse=0.1, cosine=0.5, similarity=0.2, gram=0.3)
WHOLE = BatchSettings()
CHUNKS = BatchSettings(chunk_tokens=150, chunk_pixels=10_000)


@dataclass(frozen=True)
class Case:
    """What trains, on which queries, how divided; `sharded` counts with several processes only."""

    trains: str
    queries: tuple[int, ...] | str
    how: BatchSettings = WHOLE
    sharded: bool = False

    @property
    def name(self) -> str:
        """Another one for every other case."""
        rows = self.queries if isinstance(self.queries, str) else len(self.queries)
        return f"{self.trains} {rows} {'chunks' if self.how is CHUNKS else 'whole'} {self.sharded}"


MANY, ODD, TWO = tuple(range(0, 60, 5)), (3, 11, 40, 41, 7), (0, 1)
BOTH = (False, True)
CASES = (
    *(Case(trains, MANY, how, s) for trains in ("lora", "full") for how in (WHOLE, CHUNKS)
      for s in BOTH),
    *(Case("lora", rows, WHOLE, s) for rows in (ODD, TWO, "text") for s in BOTH),
    *(Case("token", ODD, how, s) for how in (WHOLE, CHUNKS) for s in BOTH),
    *(Case("vision", rows, how, s) for rows, how in ((ODD, CHUNKS), ("text", WHOLE)) for s in BOTH),
)  # fmt: skip


def main() -> None:
    """Compute all cases, and write them from the first process."""
    checkpoint, scenes, output = map(Path, sys.argv[1:])
    processes = join("cpu")
    found = {
        f"{case.name}/{name}": value
        for case in CASES
        for name, value in gradients(case, checkpoint, scenes, processes).items()
    }
    if processes.is_main:
        save_file(found, output)
    processes.wait()


def gradients(
    case: Case, checkpoint: Path, scenes: Path, processes: Processes
) -> dict[str, Tensor]:
    """Return the loss, the gradients and their clipped norm, all in float64."""
    pair = pair_of(case, checkpoint)
    objective = Objective(CONTRAST if case.trains == "full" else TAUGHT)
    sharded = case.sharded and processes.count > 1
    if sharded:
        pair.shard(processes, torch.device("cpu"))
    pair.model.train()
    step = Step(pair, objective, Accelerator(cpu=True), case.how, None, processes, sharded)
    prepared = step.prepare(batch_of(case, scenes))
    outcome = step.backward(prepared, progress=0.3, weight=0.5)
    trained = [*pair.model.parameters(), *objective.parameters()]
    average_gradients(trained, processes)
    norm = clip_gradients(trained, 1e-3)
    named = [*pair.model.named_parameters(), *objective.named_parameters()]
    found = {
        name: whole_tensor(value.grad).clone() for name, value in named if value.grad is not None
    }
    return found | {"loss": outcome.loss.double(), "norm": norm.double()}


def batch_of(case: Case, scenes: Path) -> ContrastiveBatch:
    """Return the case's batch: some queries, or some that show no image with their candidates."""
    data = MbeirFolder(scenes)
    queries = data.train_queries("*_task1" if case.queries == "text" else "*")
    examples = Examples(queries, data.union_pool("train"), data.instructions, "first", 0)
    rows = range(6) if isinstance(case.queries, str) else case.queries
    return examples.batch([row % len(queries) for row in rows], epoch=0)


def pair_of(case: Case, checkpoint: Path) -> Pair:
    """Return a student of two layers and a teacher of four, in float64."""
    torch.manual_seed(0)
    student = load(checkpoint, "cpu")
    student.decoder.layers = torch.nn.ModuleList([student.decoder.layers[i] for i in (0, 1)])
    student.model.config.text_config.layer_types = ["full_attention"] * 2
    student.model.config.text_config.num_hidden_layers = 2
    teacher = None if case.trains == "full" else load(checkpoint, "cpu")
    for embedder in filter(None, (teacher, student)):
        embedder.model.double()
        in_double(embedder)
    # A teacher that is sharded must be the student's own network; adapters make it that.
    lora = LoraSettings(rank=0 if case.trains == "full" else 4, alpha=8, dropout=0.0)
    train = TrainSettings(
        freeze_vision=case.trains != "vision", train_embed_token=case.trains == "token"
    )
    pair = Pair(student, teacher, [0, 1], lora, train)
    if case.trains == "vision":
        pair.embedder.model.visual.requires_grad_(True)
        pair._remembered = None
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in pair.model.named_parameters():
            if "lora_B" in name:
                value.normal_(0.0, 0.2, generator=generator)
    return pair


def in_double(embedder: Embedder) -> None:
    """Give the model pixels of its own precision."""
    plain = embedder.collate

    def collate(inputs: Sequence[Input]) -> Batch:
        batch = plain(inputs)
        pixels = batch.pixel_values
        return batch if pixels is None else replace(batch, pixel_values=pixels.double())

    embedder.collate = collate  # type: ignore[method-assign]


def of_case(found: dict[str, Tensor], case: Case) -> Iterator[tuple[str, Tensor]]:
    """Yield what was found for a case."""
    for key, value in found.items():
        name, _, rest = key.partition("/")
        if name == case.name:
            yield rest, value


if __name__ == "__main__":
    main()
