"""The card's code for a folder: with its head, where it has one."""

from __future__ import annotations

from pathlib import Path

from puma_cli.checkpoint.card import USAGE
from puma_cli.models.embedder_settings import has_embedder_settings, read_embedder_settings

_IMPORT = "from PIL import Image\n"
_OPENED = 'image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil")\n'
_VECTOR = "    return torch.nn.functional.normalize(states[0, -1], dim=-1)\n"


def usage_of(folder: Path) -> str:
    """Return code that gives the folder's embeddings with plain transformers, as on its card.

    Raises:
        CheckpointError: its `embedder.json` is broken.
    """
    head = read_embedder_settings(folder).head if has_embedder_settings(folder) else None
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
