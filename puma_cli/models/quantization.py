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
# Normal numbers lose .09 of their length in NormalFloat4; more is no rounding.
_MOST_LOST = 0.15


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
        "device_map": {"": _numbered(device)},
    }


def _numbered(device: torch.device) -> torch.device:
    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", torch.cuda.current_device())


def settle_quantized(model: nn.Module, device: torch.device) -> None:
    """Make sure of the 4-bit layers of a model that was opened, and that they stay what they are.

    On some CPUs bitsandbytes packs weights anew at the first evaluation, with scales rounded
    further: a training would go on over other weights than it began with, and a resumed one over
    yet others. That is turned off.

    Raises:
        ConfigError: a width of the model is one that this bitsandbytes mixes up.
    """
    packed: list[Any] = [m for m in model.modules() if hasattr(m, _REPACKS)]
    for module in packed:
        setattr(module, _REPACKS, False)
    for width in sorted({module.in_features for module in packed}):
        lost = _share_lost(width, device)
        if lost > _MOST_LOST:
            raise ConfigError(
                f"lora.quantize is nf4, and bitsandbytes mixes up layers of width {width} on "
                f"{device.type}.",
                cause=f"Of such a layer {lost:.0%} is lost in 4 bits; 9% would be rounding. Rows "
                "that are no multiple of 64 are read wrongly by releases up to 0.50 on CPUs.",
                hint="Train on CUDA, bring bitsandbytes up to date, or set lora.quantize=none and "
                "lora.base_dtype=bfloat16.",
            )


@torch.no_grad()
def _share_lost(width: int, device: torch.device) -> float:
    """Return |W' - W| / |W| for normal random numbers W (64, width) that went through 4 bits."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    weight = torch.randn(64, width, generator=torch.Generator().manual_seed(0)).to(device)
    found = dequantize_4bit(*quantize_4bit(weight, compress_statistics=True, quant_type="nf4"))
    return float((found - weight).norm() / weight.norm())


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
