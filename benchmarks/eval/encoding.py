"""Encoding by puma and by sentence-transformers: the same checkpoint, inputs and vectors.

    python benchmarks/eval/encoding.py --scenes SCENES --emoji $EMOJI_ROOT --count 400

Both read the same files, which are opaque RGB, with the same attention, number format, threads and
limits of pixels; sentence-transformers at its best batch size of 8 to 256, found on the same set.
Rounds alternate. Times are seconds of the processor, all threads together, since those of the clock
say mostly how busy the machine is; with one thread and nothing else running they are the same.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from puma_cli.checkpoint.source import resolve
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load

BATCHES = (8, 16, 32, 64, 128, 256)
BOUND = 1e-5
# Pixels of an image of the mixed set: 128 tokens at most.
MIXED_PIXELS = 128 * 28 * 28


def main() -> None:
    """Measure each set and print a table; with --json, write all numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="puma-mini")
    parser.add_argument("--scenes", type=Path)
    parser.add_argument("--emoji", type=Path)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--sets", nargs="*", default=["scenes", "emoji", "mixed"])
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for kind in asked.sets:
            root = work / kind
            inputs = mixed(root, asked.count) if kind == "mixed" else pool(asked, kind, root)
            pixels = MIXED_PIXELS if kind == "mixed" else None
            found[kind] = measure(asked, copy_model(asked.model, root, pixels), inputs)
            print(kind, json.dumps(found[kind]), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2))


def measure(asked: argparse.Namespace, folder: Path, inputs: list[Input]) -> dict[str, Any]:
    """Return the medians of both, and what puma spends in the forward pass."""
    ours = load(folder, asked.device, asked.dtype)
    theirs = open_theirs(folder, asked)
    messages = [as_message(entry) for entry in inputs]
    reference = ours.encode(inputs)

    def run_theirs(batch: int) -> torch.Tensor:
        return torch.as_tensor(
            theirs.encode(messages, batch_size=batch, show_progress_bar=False)
        ).float()

    # Once without the clock: libraries load and memory is taken.
    run_theirs(32)
    tried = {batch: timed(partial(run_theirs, batch))[0] for batch in BATCHES}
    best = min(tried, key=lambda batch: tried[batch])
    forward, rounds = [], []
    for _ in range(asked.rounds):
        # What was read before is forgotten, as in a command of its own.
        ours.processor = ours._new_processor()
        with forward_seconds(ours) as inside:
            mine, vectors = timed(lambda: ours.encode(inputs, batch_size=1_024))
        forward.append(inside[0] / mine)
        other, others = timed(lambda: run_theirs(best))
        rounds.append((mine, other))
    difference = float((vectors - others).abs().max())
    assert asked.dtype != "float32" or difference < BOUND, difference
    assert torch.allclose(vectors, reference, atol=BOUND) or asked.dtype != "float32"
    mine, other = (statistics.median(column) for column in zip(*rounds, strict=True))
    return {
        "inputs": len(inputs),
        "images": sum(entry.image is not None for entry in inputs),
        "puma": mine,
        "sentence_transformers": other,
        "best_batch": best,
        "by_batch": tried,
        "times": statistics.median(b / a for a, b in rounds),
        "rounds": rounds,
        "forward_share": statistics.median(forward),
        "difference": difference,
    }


def timed(work: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Return the processor's seconds, on a GPU the clock's, and the result."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    before = clock()
    result = work()
    return clock() - before, result


@contextmanager
def forward_seconds(embedder: Embedder) -> Iterator[list[float]]:
    """Note the seconds that the network itself takes."""
    plain, spent = embedder.embed, [0.0]

    def embed(*args: Any, **options: Any) -> torch.Tensor:
        # Of this thread alone: the next batch is read meanwhile on another.
        before = time.thread_time()
        try:
            return plain(*args, **options)
        finally:
            spent[0] += time.thread_time() - before

    embedder.embed = embed  # type: ignore[method-assign]
    try:
        yield spent
    finally:
        del embedder.embed


def pool(asked: argparse.Namespace, kind: str, root: Path) -> list[Input]:
    """Return inputs drawn evenly from a test pool, their images copied as opaque RGB."""
    data = MbeirFolder(getattr(asked, kind))
    inputs = list(dict.fromkeys(entry.to_input() for entry in data.union_pool("test")))
    chosen = [inputs[n * len(inputs) // asked.count] for n in range(asked.count)]
    return [opaque(entry, root / "images" / f"{n}.png") for n, entry in enumerate(chosen)]


def opaque(entry: Input, path: Path) -> Input:
    """Return the input with a copy of its image on white."""
    if entry.image is None:
        return entry
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(entry.image) as image:
        whole = image.convert("RGBA")
        Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB").save(
            path
        )
    return Input(entry.text, path, entry.instruction)


def mixed(root: Path, count: int) -> list[Input]:
    """Return texts of 8 to 450 tokens, images of 64 to 1,600 pixels a side, and both together."""
    random = np.random.default_rng(0)
    words = ["small", "large", "red", "green", "circle", "square", "left", "above", "sand"]
    inputs = []
    (root / "images").mkdir(parents=True)
    for number in range(count):
        text = image = None
        if number % 3 != 1:
            length = int(np.exp(random.uniform(np.log(6), np.log(400))))
            text = " ".join(random.choice(words, length))
        if number % 3:
            sides = np.exp(random.uniform(np.log(64), np.log(1_600), 2)).astype(int)
            image = root / "images" / f"{number}.jpg"
            coarse = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize(tuple(sides), Image.Resampling.BICUBIC).save(image)
        inputs.append(Input(text, image))
    return inputs


def copy_model(model: str, root: Path, pixels: int | None) -> Path:
    """Return a copy of a checkpoint that sentence-transformers can open too."""
    folder = root / "model"
    shutil.copytree(resolve(model), folder)
    settings = json.loads((folder / "embedder.json").read_text())
    shown = json.loads((folder / "preprocessor_config.json").read_text())
    if pixels is not None:
        settings["max_pixels"] = shown["size"]["longest_edge"] = pixels
        write(folder / "embedder.json", settings)
        write(folder / "preprocessor_config.json", shown)
    # The stock processor of this architecture asks for torchvision, even for text; this one does
    # the same to a prompt and does not.
    write(folder / "processor_config.json", {"processor_class": "PaddleOCRVLProcessor"})
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["extra_special_tokens"] = {"image_token": "<|image_pad|>"}
    write(folder / "tokenizer_config.json", tokenizer)
    (folder / "chat_template.jinja").write_text(settings["template"])
    forward = {"method": "forward", "method_output_name": "last_hidden_state"}
    write(
        folder / "sentence_bert_config.json",
        {
            "transformer_task": "feature-extraction",
            "module_output_name": "token_embeddings",
            "unpad_inputs": False,
            "modality_config": {
                **dict.fromkeys(("text", "image", "image+text"), forward),
                "message": {**forward, "format": "structured"},
            },
        },
    )
    (folder / "1_Pooling").mkdir()
    write(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": settings["dimension"],
            "pooling_mode": "lasttoken",
            "include_prompt": True,
        },
    )
    kinds = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    (folder / "2_Normalize").mkdir()
    write(
        folder / "modules.json",
        [
            {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for n, (kind, path) in enumerate(kinds)
        ],
    )
    return folder


def open_theirs(folder: Path, asked: argparse.Namespace) -> Any:
    """Open the folder with sentence-transformers, unmodified."""
    from sentence_transformers import SentenceTransformer

    options = {"attn_implementation": "sdpa", "dtype": getattr(torch, asked.dtype)}
    found = SentenceTransformer(str(folder), device=asked.device, model_kwargs=options)
    return found.eval()


def as_message(entry: Input) -> list[dict[str, Any]]:
    """Return an input as a chat of one turn, as sentence-transformers takes it."""
    lines = [line for line in (entry.instruction, entry.text) if line]
    parts: list[dict[str, Any]] = []
    if entry.image is not None:
        parts.append({"type": "image", "image": str(entry.image)})
    if lines:
        parts.append({"type": "text", "text": "\n".join(lines)})
    return [{"role": "user", "content": parts}]


def write(path: Path, content: Sequence[Any] | dict[str, Any]) -> None:
    """Write JSON."""
    path.write_text(json.dumps(content, indent=2))


if __name__ == "__main__":
    main()
