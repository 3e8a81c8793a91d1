"""What a batch in chunks costs beside the same batch at once, and what it needs in memory.

    python benchmarks/distill/gradient_cache.py --data runs/scenes --write gradient-cache.md

Ways take turns, each in a process of its own that warms up on its batch and times reading it and
its gradients, without an optimizer: in seconds of the processor, which other work on the machine
touches less than those of the wall, or of the wall on CUDA. Memory is the peak of the process (of
the device on CUDA) above what it had before the first step, in a further process whose allocator
gives back at once what is freed: by default it keeps much of that, and more the longer it runs.
What must grow with the batch and lives in the second pass is computed and taken off: the
embeddings, their gradients and unit copies in fp32, the mask of excluded pairs, and what chunks
keep from the first pass: tokens, positions and images' features.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Passes forward and backward of a chunked step, over those of one at once: one more forward pass.
# The backward pass costs two forward ones in full training, one where no weight has a gradient.
COUNTED = {"full": (1 + 3) / 3, "lora": (1 + 2) / 2}
TIME_LIMIT, MEMORY_LIMIT = 1.1, 1.1
MIB = 1 << 20
# Large blocks are mapped one by one, and unmapped when they are freed (glibc).
GIVING_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


@dataclass(frozen=True)
class Way:
    """One thing to measure: a batch, at once or in chunks."""

    training: str
    batch: int
    chunked: bool

    @property
    def named(self) -> str:
        return (
            f"{self.training}, {self.batch:,} queries, {'in chunks' if self.chunked else 'at once'}"
        )


def main() -> None:
    """Run all ways in turn and print the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="puma-mini")
    parser.add_argument(
        "--width", type=int, help="instead, a model with random weights of so many dimensions"
    )
    parser.add_argument("--layers", type=int, default=12, help="its layers")
    parser.add_argument("--keep", type=int, default=4)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--small", type=int, default=256)
    parser.add_argument("--large", type=int, default=4096)
    parser.add_argument("--chunk-tokens", type=int, default=2048)
    parser.add_argument("--chunk-pixels", type=int, default=64 * 56 * 56)
    parser.add_argument("--training", nargs="+", choices=COUNTED, default=list(COUNTED))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.way:
        print(json.dumps(measure(asked, Way(**json.loads(asked.way)))))
        return
    ways = [
        Way(training, batch, chunked)
        for training in asked.training
        for batch, chunked in (
            (asked.small, False),
            (asked.small, True),
            (asked.large, True),
        )
    ]
    found: dict[Way, list[dict[str, Any]]] = {way: [] for way in ways}
    for number in range(asked.rounds):
        shift = number % len(ways)
        for way in ways[shift:] + ways[:shift]:
            if way.batch == asked.large and number:
                continue
            command = [sys.executable, __file__, *sys.argv[1:], "--way", json.dumps(vars(way))]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
            found[way].append(json.loads(output.splitlines()[-1]))
            print(f"round {number + 1}, {way.named}: {found[way][-1]}", file=sys.stderr, flush=True)
    for way in ways:
        command = [sys.executable, __file__, *sys.argv[1:], "--way", json.dumps(vars(way))]
        output = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, env=os.environ | GIVING_BACK
        ).stdout
        lean = json.loads(output.splitlines()[-1])["peak"]
        for run in found[way]:
            run["peak"] = lean
        print(f"memory, {way.named}: {lean / MIB:.0f} MiB", file=sys.stderr, flush=True)
    page = report(asked, found)
    if asked.write:
        asked.write.write_text(page, encoding="utf-8")
    print(page)


def measure(asked: argparse.Namespace, way: Way) -> dict[str, Any]:
    """Time a way's gradients in this process, and read its memory."""
    import torch
    from accelerate import Accelerator
    from wide_model import write_wide_model

    from puma_cli import PruneSettings, prune
    from puma_cli.config.lora_settings import LoraSettings
    from puma_cli.config.training_settings import BatchSettings, LossSettings, TrainSettings
    from puma_cli.data.batches import BatchOrder
    from puma_cli.data.examples import Examples
    from puma_cli.data.mbeir import MbeirFolder
    from puma_cli.distillation.objective import Objective
    from puma_cli.distillation.pair import Pair
    from puma_cli.distillation.step import Step
    from puma_cli.models import image_reader
    from puma_cli.models.opening import load

    # Images that are remembered are bounded apart from this, and would grow with the larger batch.
    image_reader.PIXEL_CACHE_BYTES = image_reader.FILE_CACHE_BYTES = 32 * MIB
    with tempfile.TemporaryDirectory() as folder:
        model = asked.model
        if asked.width:
            model = str(Path(folder) / "model")
            write_wide_model(Path(model), asked.width, asked.layers)
        prune(PruneSettings(model, Path(folder) / "cut", keep=asked.keep, verify="none"))
        student = load(Path(folder) / "cut", asked.device, "float32")
    lora = (
        LoraSettings(rank=16, alpha=32, dropout=0.0) if way.training == "lora" else LoraSettings()
    )
    pair = Pair(student, None, None, lora, TrainSettings())
    data = MbeirFolder(asked.data)
    queries = data.train_queries("*")
    examples = Examples(queries, data.union_pool("train"), data.instructions, "first", 0)
    _, drawn = BatchOrder(queries, way.batch, "mixed", seed=0).batch(0)
    batch = examples.batch(drawn, epoch=0)
    step = Step(
        pair,
        Objective(LossSettings(symmetric=True)),
        Accelerator(cpu=asked.device == "cpu"),
        BatchSettings(chunk_tokens=asked.chunk_tokens, chunk_pixels=asked.chunk_pixels)
        if way.chunked
        else BatchSettings(),
    )
    # Whatever is read before the steps, in either batch: full caches of images, lists of tokens.
    step.prepare(batch)
    pictures = [entry for entry in examples.batch(range(2_000), 0).inputs if entry.image]
    for start in range(0, len(pictures), 128):
        student.collate(pictures[start : start + 128])
    before = peak(torch, asked.device)
    clock = time.process_time if asked.device == "cpu" else time.perf_counter
    seconds = []
    for _ in range(2 if way.batch == asked.large else 6):
        began = clock()
        prepared = step.prepare(batch)
        step.backward(prepared, progress=0.0)
        if asked.device == "cuda":
            torch.cuda.synchronize()
        seconds.append(clock() - began)
        pair.model.zero_grad()
    rows, columns, width = way.batch, len(batch.candidates), student.dimension
    embeddings = 4 * (rows + columns) * width
    grows = 4 * embeddings + rows * columns
    if way.chunked:
        grows += kept_bytes(student, batch.inputs)
    return {
        "seconds": statistics.median(seconds[1:]),
        "peak": peak(torch, asked.device) - before,
        "grows": grows,
        "candidates": columns,
        "chunks": max(1, len(prepared.chunks)),
    }


def kept_bytes(student: Any, inputs: Sequence[Any]) -> int:
    """Return the bytes of tokens, their positions and images' features between the two passes."""
    sizes = student.processor.sizes(inputs)
    patch, merge = student.image_processor.patch_size, student.image_processor.merge_size
    image_tokens = sum(size.pixels for size in sizes) // (patch * merge) ** 2
    tokens = sum(size.tokens for size in sizes)
    # Ids, mask and three positions in int64, kinds in int32.
    return int(tokens * (5 * 8 + 4) + image_tokens * student.width * 4)


def peak(torch: Any, device: str) -> int:
    """Return the most bytes held so far."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def report(asked: argparse.Namespace, found: dict[Way, list[dict[str, Any]]]) -> str:
    """Return the page."""
    import torch

    command = "python benchmarks/distill/gradient_cache.py " + " ".join(
        argument
        for argument in sys.argv[1:]
        if not argument.startswith("--write") and argument != str(asked.write)
    )
    place = torch.cuda.get_device_name() if asked.device == "cuda" else platform.machine()
    named = asked.model
    if asked.width:
        named = f"A random model of {asked.width} dimensions and {asked.layers} layers,"
    lines = [
        "# The gradient cache",
        "",
        f"Command: `{command}`. Machine: {place}, {torch.get_num_threads()} CPU threads, torch "
        f"{torch.__version__.partition('+')[0]}. {named} cut to {asked.keep} layers, InfoNCE "
        f"in both directions, chunks of {asked.chunk_tokens:,} tokens and "
        f"{asked.chunk_pixels:,} pixels; medians of {asked.rounds} "
        "processes that took turns (the large batch: one).",
        "",
        "Peak: above what the process held before its first step. Grows: what must grow with the "
        "batch (embeddings, their gradients and unit copies, the mask, tokens and images' features "
        "between the passes).",
        "",
        "| training | queries | candidates | chunks | seconds | pairs a second | peak, MiB | "
        "grows, MiB | rest, MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    middle = {}
    for way, runs in found.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        high = statistics.median(run["peak"] for run in runs)
        middle[way] = seconds, high - runs[0]["grows"]
        lines.append(
            f"| {way.training} | {way.batch:,} | {runs[0]['candidates']:,} | "
            f"{runs[0]['chunks']:,} | {seconds:.2f} | {way.batch / seconds:,.0f} | "
            f"{high / MIB:,.0f} | {runs[0]['grows'] / MIB:,.0f} | {middle[way][1] / MIB:,.0f} |"
        )
    lines += ["", "| training | what | measured | counted | goal |", "|---|---|---|---|---|"]
    for training in asked.training:
        counted = COUNTED[training]
        at_once = middle[Way(training, asked.small, False)]
        small = middle[Way(training, asked.small, True)]
        large = middle[Way(training, asked.large, True)]
        time_ratio, memory_ratio = small[0] / at_once[0], large[1] / small[1]
        lines.append(
            f"| {training} | time in chunks over time at once | {time_ratio:.2f} | {counted:.2f} | "
            f"at most {TIME_LIMIT * counted:.2f} |"
        )
        lines.append(
            f"| {training} | rest of the memory, {asked.large:,} over {asked.small:,} | "
            f"{memory_ratio:.2f} | 1.00 | at most {MEMORY_LIMIT:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
