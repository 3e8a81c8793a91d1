"""The card of an exported folder: what it is, how it was checked, and code that runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from puma_cli.checkpoint.card import inherited_metadata, markdown_table, write_card
from puma_cli.exporting.parity.check import ExportParity
from puma_cli.models.embedder_settings import EmbedderSettings
from puma_cli.models.usage import usage_of

_TEXT = """\
```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("FOLDER")
queries = model.encode_query(["a red square"])
documents = model.encode_document(["A square, red all over.", "A green circle."])
print(model.similarity(queries, documents))
```
"""
_IMAGES = """
Images, and images with text:

```python
from PIL import Image

picture = Image.open("picture.png").convert("RGB")
model.encode([picture, {"image": picture, "text": "the same in green"}])
```

Images of this architecture are read with torchvision there (`pip install torchvision`).
"""
_PROMPTED = """
An instruction for queries goes into `prompt=`, or has a name in
`config_sentence_transformers.json`: `model.encode(texts, prompt_name=NAME)`. Documents have none.
"""
_VLLM = """\
```
vllm serve FOLDER --runner pooling --convert embed
```

```
curl http://localhost:8000/v1/embeddings -H 'Content-Type: application/json' -d '{
  "model": "FOLDER",
  "messages": [{"role": "user", "content": [{"type": "text", "text": "a red square"}]}]
}'
```

Weights have the names and the architecture that vLLM knows. There is no LM head of its own: what it
would generate means nothing. vLLM itself was not run on it.
"""


def write_export_card(
    folder: Path,
    title: str,
    *,
    format_: str,
    model: str,
    source: Path,
    settings: EmbedderSettings,
    depth: int,
    images: bool,
    prompts: Mapping[str, str],
    parity: Sequence[ExportParity],
) -> None:
    """Write the card of an exported folder.

    Args:
        model: the model as the user named it; `source` is its folder.
        depth: its decoder layers.
    """
    facts = [
        ("exported from", model),
        ("format", format_),
        ("decoder layers", str(depth)),
        ("dimension", str(settings.dimension)),
    ]
    if images:
        facts.append(("pixels of an image", f"{settings.min_pixels:,} to {settings.max_pixels:,}"))
    facts += [(f"prompt `{name}`", json.dumps(text)) for name, text in prompts.items()]
    usage = {
        "transformers": usage_of(folder),
        "sentence-transformers": _TEXT + (_IMAGES if images else "") + _PROMPTED,
        "vllm": _VLLM,
    }[format_]
    write_card(
        folder,
        title,
        summary=f"An embedder of {'text and images' if images else 'text'}, read at the last token "
        f"(`{settings.embed_token}`), which the chat template ends on.",
        facts=facts,
        usage=usage,
        more=[_parity_section(parity)] if parity else [],
        metadata={
            **inherited_metadata(source),
            "library_name": "transformers" if format_ == "vllm" else format_,
        },
    )


def _parity_section(parity: Sequence[ExportParity]) -> str:
    rows = [
        (
            check.loader,
            f"not checked: {check.unchecked}"
            if check.unchecked
            else f"{check.worst:.1e} in {len(check.cases)} batches",
        )
        for check in parity
    ]
    table = markdown_table(("opened with", "largest difference, of a vector's length"), rows)
    how = "Compared in float32 with those of puma (`parity.json`):"
    return f"## The same vectors\n\n{how}\n\n{table}"
