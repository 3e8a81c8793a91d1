"""The card's code for a folder: with its head, where it has one."""

from __future__ import annotations

from pathlib import Path

from puma_cli.checkpoint.card import USAGE
from puma_cli.models.embedder_settings import ABOVE_TEXT, LAST, settings_for

_IMPORT = "from PIL import Image\n"
_OPENED = 'image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil")\n'
_VECTOR = "    return torch.nn.functional.normalize(states[0, -1], dim=-1)\n"
_WITH_PUMA = """\
```python
import puma_cli

model = puma_cli.load("FOLDER")
queries = model.encode_queries(["a red square"])
documents = model.encode_documents(["A square, red all over.", "A green circle."])
print(queries @ documents.T)
```

How it is pooled and prompted says `embedder.json`; `puma export` writes it for other loaders.
"""


def usage_of(folder: Path) -> str:
    """Return code that gives the folder's embeddings, as on its card.

    Of models that are asked as puma's own are, with plain transformers.

    Raises:
        CheckpointError: its `embedder.json` is broken.
    """
    settings = settings_for(folder)
    if not settings.sees or settings.pooling != LAST or settings.instruction != ABOVE_TEXT:
        return _WITH_PUMA
    head = settings.head
    if head is None:
        return USAGE
    code = USAGE
    for line, more in (
        (_IMPORT, f"{_IMPORT}from safetensors.torch import load_file\n"),
        (_OPENED, f'{_OPENED}head = load_file(f"{{folder}}/{head}")\n'),
        (
            _VECTOR,
            "    # The model ends before the head, which leads into the teacher's space.\n"
            '    vector = states[0, -1] @ head["weight"] + head["bias"]\n'
            "    return torch.nn.functional.normalize(vector, dim=-1)\n",
        ),
    ):
        assert line in code
        code = code.replace(line, more)
    return code
