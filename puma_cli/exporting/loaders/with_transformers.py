"""Embed what a request asks for with plain transformers: `python with_transformers.py REQUEST`.

It runs in a process of its own, in which puma is never imported. See `puma_cli.exporting.parity`.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize, pad
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

IMAGE = "<|image_pad|>"


def main() -> None:
    """Answer the request in the file that it names."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    answers = answer(request)
    assert "puma_cli" not in sys.modules
    save_file(answers, request["answers"], metadata={"transformers": transformers.__version__})


def answer(request):  # type: ignore[no-untyped-def]
    """Return the vectors (B, D) of each of the request's batches, by name."""
    folder = Path(request["folder"])
    embedder = json.loads((folder / "embedder.json").read_text(encoding="utf-8"))
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = None
    if (folder / "preprocessor_config.json").is_file():
        images = AutoImageProcessor.from_pretrained(folder, backend="pil")
    head = load_file(folder / embedder["head"]) if embedder.get("head") else None
    answers = {}
    for name, batch in request["batches"].items():
        pooling = embedder.get("pooling", "last")
        states = embed(model, tokenizer, images, batch["inputs"], batch["left"], pooling)
        if head is not None:
            states = states @ head["weight"] + head["bias"]
        answers[name] = normalize(states, dim=-1) if embedder.get("normalize", True) else states
    return answers


@torch.no_grad()
def embed(model, tokenizer, images, inputs, left, pooling):  # type: ignore[no-untyped-def]
    """Return the pooled states (B, D) of inputs that are padded to the longest."""
    rows, features = [], {}
    pictures = [Image.open(entry["image"]).convert("RGB") for entry in inputs if entry.get("image")]
    grids = iter(())
    if pictures:
        features = dict(images(images=pictures, return_tensors="pt"))
        grids = iter(features["image_grid_thw"])
    for entry in inputs:
        messages = []
        if entry.get("prompt"):
            messages.append(
                {"role": "system", "content": [{"type": "text", "text": entry["prompt"]}]}
            )
        parts = [{"type": "image"}] if entry.get("image") else []
        parts += [{"type": "text", "text": entry["text"]}] if entry.get("text") else []
        messages.append({"role": "user", "content": parts})
        prompt = tokenizer.apply_chat_template(messages, tokenize=False)
        if entry.get("image"):
            prompt = prompt.replace(
                IMAGE, IMAGE * (int(next(grids).prod()) // images.merge_size**2)
            )
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
        rows.append(ids)
    longest = max(len(row) for row in rows)
    filler = tokenizer.pad_token_id or 0

    def padded(row, value):  # type: ignore[no-untyped-def]
        gap = longest - len(row)
        return pad(row, (gap, 0) if left else (0, gap), value=value)

    ids = torch.stack([padded(row, filler) for row in rows])
    mask = torch.stack([padded(torch.ones_like(row), 0) for row in rows])
    if pictures:
        shown = (ids == model.config.image_token_id) & (mask == 1)
        features["mm_token_type_ids"] = shown.int()
    states = model(input_ids=ids, attention_mask=mask, **features).last_hidden_state
    if pooling == "mean":
        return (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
    # A template ends on the token that `eos` asks for.
    places = mask.argmax(1) if pooling == "first" else last_places(mask)
    return states[torch.arange(len(rows)), places]


def last_places(mask):  # type: ignore[no-untyped-def]
    """Return the place of the last token of each row (B), of a mask (B, T)."""
    return mask.shape[1] - 1 - mask.flip(1).argmax(1)


if __name__ == "__main__":
    main()
