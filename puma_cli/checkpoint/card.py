"""The model card of a written checkpoint: a README.md with YAML front matter."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from puma_cli.checkpoint.layout import CARD
from puma_cli.checkpoint.output_folder import write_text

_INHERITED = ("license", "license_name", "license_link", "base_model")
_LONGEST_FRONT = 1 << 16  # characters

# Plain transformers, no puma: the same vectors as `puma_cli.load(...).encode(...)`.
USAGE = """\
```python
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

folder = "FOLDER"  # the one that holds this card
model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil")


@torch.no_grad()
def embed(text=None, image=None):
    parts = [{"type": "image"}] if image else []
    parts += [{"type": "text", "text": text}] if text else []
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": parts}], tokenize=False)
    inputs = {}
    if image:
        picture = Image.open(image).convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")  # what shows through
        picture = Image.alpha_composite(white, picture).convert("RGB")
        pixels = image_processor(images=[picture], return_tensors="pt")
        inputs.update(pixels)
        tokens = int(pixels["image_grid_thw"].prod()) // image_processor.merge_size**2
        prompt = prompt.replace("<|image_pad|>", "<|image_pad|>" * tokens)
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
    inputs.update(input_ids=ids, mm_token_type_ids=(ids == model.config.image_token_id).int())
    states = model(**inputs).last_hidden_state
    return torch.nn.functional.normalize(states[0, -1], dim=-1)
```

A query's instruction goes on a line before its text; candidates have none.
"""


def write_card(
    folder: Path,
    title: str,
    *,
    summary: str,
    facts: Sequence[tuple[str, str]] = (),
    usage: str = USAGE,
    more: Sequence[str] = (),
    name: str = ".",
    metadata: Mapping[str, str | Sequence[str]] | None = None,
) -> None:
    """Write the folder's README.md.

    Args:
        summary: what the model is, one paragraph.
        facts: rows of a table of names and values.
        usage: how to use it, where FOLDER stands for `name`.
        more: further sections in Markdown, each with its heading.
        metadata: further front matter, such as `license` or `base_model`.
    """
    front: dict[str, str | Sequence[str]] = {
        "library_name": "transformers",
        "pipeline_tag": "feature-extraction",
        "tags": ["puma", "multimodal-retrieval", "embeddings"],
    }
    front.update(metadata or {})
    sections = [_front_matter(front), f"# {title}\n", summary.strip() + "\n"]
    if facts:
        sections.append(markdown_table(("", ""), facts))
    if usage:
        sections.append(f"## Use\n\n{usage.replace('FOLDER', name).strip()}\n")
    sections += [f"{section.strip()}\n" for section in more]
    write_text(folder / CARD, "\n".join(sections))


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, each row as long as the headings."""
    lines = [headers, *([_cell(cell) for cell in row] for row in rows)]
    head, *body = (f"| {' | '.join(line)} |\n" for line in lines)
    return f"{head}|{'---|' * len(headers)}\n{''.join(body)}"


def inherited_metadata(folder: Path) -> dict[str, str]:
    """Return the front matter that a model made from `folder` takes over: licence and origin.

    A folder without a card, or with a broken one, says nothing.
    """
    try:
        with (folder / CARD).open(encoding="utf-8") as file:
            text = file.read(_LONGEST_FRONT)
    except (OSError, UnicodeDecodeError):
        return {}
    front = re.match(r"---\n(.*?)\n---", text, flags=re.DOTALL)
    found = _parsed(front[1]) if front else {}
    return {key: value for key in _INHERITED if isinstance(value := found.get(key), str)}


def _parsed(front: str) -> dict[object, object]:
    import yaml

    try:
        content = yaml.safe_load(front)
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _front_matter(values: Mapping[str, str | Sequence[str]]) -> str:
    # JSON's strings and lists are YAML's too, and importing YAML takes longer than a small cut.
    plain = {key: value if isinstance(value, str) else list(value) for key, value in values.items()}
    lines = (f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in plain.items())
    return f"---\n{''.join(lines)}---\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
