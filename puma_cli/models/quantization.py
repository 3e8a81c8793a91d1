"""Opening a decoder's linear layers in 4 bits, through bitsandbytes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from puma_cli.errors import ConfigError

# What a layer of bitsandbytes goes by when it decides whether to pack its weights anew.
_REPACKS = "support_avx512bf16_for_cpu"


def check_quantizable(device: torch.device) -> None:
    """Refuse a device that 4-bit weights cannot be used on.

    Raises:
        ConfigError: bitsandbytes is missing, broken, or cannot do it there.
    """
    if find_spec("bitsandbytes") is None:
        raise ConfigError(
            "lora.quantize is nf4, but bitsandbytes is not installed.",
            hint="Install it with: pip install 'puma-cli[qlora]'; or train over weights in half "
            "precision: lora.quantize=none lora.base_dtype=bfloat16.",
        )
    try:
        with quiet_bitsandbytes():
            from bitsandbytes.functional import dequantize_4bit, quantize_4bit

        packed, state = quantize_4bit(
            torch.ones(64, 2, device=device), compress_statistics=True, quant_type="nf4"
        )
        dequantize_4bit(packed, state)
    except Exception as error:  # a missing library, operator or kernel: it raises many kinds
        raise ConfigError(
            f"lora.quantize is nf4, but bitsandbytes does not work on {device.type} here.",
            cause=f"{type(error).__name__}: {error}",
            hint="Bring it up to date with: pip install -U 'puma-cli[qlora]', and see what "
            "python -m bitsandbytes says; it works on CUDA, and recent releases on CPUs.",
        ) from error


def nf4_options(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that open decoder linears in 4 bits.

    They are NormalFloat4 in blocks of 64 numbers with scales quantised again, 4.13 bits a weight
    (QLoRA, arXiv 2305.14314); all else is opened in `dtype`, which is computed in as well.

    Raises:
        ConfigError: bitsandbytes is missing, or cannot do it on this device.
    """
    check_quantizable(device)
    from transformers import BitsAndBytesConfig

    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=["visual"],
        ),
        # Weights are quantised where they are used: layer by layer, as they come from the disk.
        "device_map": {"": device},
    }


def keep_as_quantised(model: nn.Module) -> None:
    """Let a first evaluation leave 4-bit weights as they are.

    On some CPUs bitsandbytes packs them anew there, with scales rounded further: a training would
    go on over other weights than it began with, and a resumed one over yet others.
    """
    for module in model.modules():
        if hasattr(module, _REPACKS):
            setattr(module, _REPACKS, False)


@contextmanager
def quiet_bitsandbytes() -> Iterator[None]:
    """Silence what bitsandbytes says of optional kernels when it is imported, by whomever."""
    logger = logging.getLogger("bitsandbytes")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
