"""Which implementation of attention a model is opened with."""

from __future__ import annotations

import torch

from puma_cli.errors import ConfigError

FLASH = "flash_attention_2"


def check_attention(name: str, device: torch.device, dtype: torch.dtype) -> None:
    """Refuse an attention that cannot run here.

    Raises:
        ConfigError: flash attention is not installed, or not for this device or number format.
    """
    if name != FLASH:
        return
    from transformers.utils.import_utils import is_flash_attn_2_available

    if not is_flash_attn_2_available():
        raise ConfigError(
            "Flash attention is not there.",
            cause="The package flash-attn cannot be imported, or there is no GPU for it.",
            hint="Take --attn sdpa, which is as fast on most GPUs, or install flash-attn.",
        )
    if device.type != "cuda" or dtype is torch.float32:
        raise ConfigError(
            f"Flash attention computes no {str(dtype).removeprefix('torch.')} on {device.type}.",
            hint="Take --attn sdpa, or --device cuda with --dtype bfloat16 or float16.",
        )
