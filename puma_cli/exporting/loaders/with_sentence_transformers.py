"""Embed what a request asks for with sentence-transformers: `python FILE REQUEST`.

It runs in a process of its own, in which puma is never imported. See `puma_cli.exporting.parity`.
"""

import json
import sys
from pathlib import Path

import sentence_transformers
import torch
from PIL import Image
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer


def main() -> None:
    """Answer the request in the file that it names."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    answers = answer(request)
    assert "puma_cli" not in sys.modules
    save_file(
        answers,
        request["answers"],
        metadata={"sentence-transformers": sentence_transformers.__version__},
    )


def answer(request):  # type: ignore[no-untyped-def]
    """Return the vectors (B, D) of each of the request's batches, by name."""
    model = SentenceTransformer(
        request["folder"], device="cpu", model_kwargs={"dtype": torch.float32}
    )
    tokenizer = model.tokenizer
    answers = {}
    for name, batch in request["batches"].items():
        tokenizer.padding_side = "left" if batch["left"] else "right"
        prompts = {entry.get("prompt") for entry in batch["inputs"]}
        assert len(prompts) == 1
        answers[name] = model.encode(
            [shown(entry) for entry in batch["inputs"]],
            prompt=prompts.pop(),
            batch_size=len(batch["inputs"]),
            convert_to_tensor=True,
            show_progress_bar=False,
        ).contiguous()
    return answers


def shown(entry):  # type: ignore[no-untyped-def]
    """Return an input as sentence-transformers takes it: text, picture, or both by name."""
    if not entry.get("image"):
        return entry["text"]
    picture = Image.open(entry["image"]).convert("RGB")
    return {"image": picture, "text": entry["text"]} if entry.get("text") else picture


if __name__ == "__main__":
    main()
