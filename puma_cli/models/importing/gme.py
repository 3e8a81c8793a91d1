"""GME-Qwen2-VL: the instruction in the system turn, read at an end-of-text token behind it all."""

from __future__ import annotations

from pathlib import Path

from puma_cli.checkpoint import layout
from puma_cli.checkpoint.json_object import read_object
from puma_cli.models.embedder_settings import (
    SYSTEM,
    EmbedderSettings,
    decoder_width,
    pixel_limits,
)
from puma_cli.models.importing.chat import CHATML

# What its published code does, as far as it was read: documents, and queries without an
# instruction, have this one.
INSTRUCTION = "You are a helpful assistant."
END = "<|endoftext|>"
# Of image tokens, each of 28 x 28 pixels, where the config does not say.
_FEWEST, _MOST = 256, 1280
# Of tokens, its images' too; puma counts those of texts.
_LONGEST = 1800


def is_gme(folder: Path) -> bool:
    """Tell whether a folder is a GME-Qwen2-VL."""
    config = read_object(folder / layout.CONFIG)
    if config.get("model_type") != "qwen2_vl":
        return False
    classes = [str(name) for name in config.get("architectures") or ()]
    classes += [str(name) for name in (config.get("auto_map") or {}).values()]
    return any("GmeQwen2VL" in name for name in classes) or (folder / "gme_inference.py").is_file()


def gme_settings(folder: Path) -> EmbedderSettings:
    """Return how a GME-Qwen2-VL embeds.

    Its weights are those of a stock Qwen2-VL, so none of its code is run. It reduces images twice,
    which is left out here: large ones differ by a little.
    """
    config = read_object(folder / layout.CONFIG)
    low, high = (
        int(config.get(key) or default) * 28 * 28
        for key, default in (("min_image_tokens", _FEWEST), ("max_image_tokens", _MOST))
    )
    if "min_image_tokens" not in config and (folder / layout.PREPROCESSOR).is_file():
        # A copy that was saved again has the limits where others look for them.
        saved = pixel_limits(folder)
        low, high = min(low, saved[0]), min(high, saved[1])
    return EmbedderSettings(
        template=CHATML + END,
        embed_token=END,
        dimension=decoder_width(config),
        min_pixels=low,
        max_pixels=high,
        instruction=SYSTEM,
        max_text_tokens=int(config.get("max_length") or _LONGEST),
        default_instruction=INSTRUCTION,
    )
