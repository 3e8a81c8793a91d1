"""Which tensors a change of dtype concerns, told from the headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from puma_cli.checkpoint.decoder_keys import Decoder
from puma_cli.checkpoint.safetensors_header import TensorEntry
from puma_cli.errors import ConfigError

# What a setting calls them, and what safetensors does.
DTYPES: Final[Mapping[str, str]] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_CAST: Final = frozenset({"F64", "F32", "F16", "BF16"})


def target_dtype(
    dtype: str, config: Mapping[str, Any], tensors: Mapping[str, TensorEntry], decoder: Decoder
) -> str | None:
    """Return the dtype that floating-point tensors are cast to, or None where all stay.

    Args:
        dtype: `auto`, which casts nothing, or a key of `DTYPES`.

    Raises:
        ConfigError: `dtype` is unknown, or the weights are quantised.
    """
    if dtype == "auto":
        return None
    if dtype not in DTYPES:
        names = ", ".join(("auto", *DTYPES))
        raise ConfigError(f"dtype = {dtype!r} is unknown.", hint=f"Use one of {names}.")
    quantised = {
        entry.dtype
        for name, entry in tensors.items()
        if decoder.layer_of(name) is not None and entry.dtype not in _CAST
    }
    if quantised or _has_quantisation(config):
        found = ", ".join(sorted(quantised)) or "a quantization_config"
        raise ConfigError(
            f"Quantised weights cannot be cast to {dtype}.",
            cause=f"The checkpoint has {found}: its numbers mean nothing without their scales.",
            hint="Leave --dtype away, or cut a checkpoint that is not quantised.",
        )
    return DTYPES[dtype]


def dtype_after(entry: TensorEntry, target: str | None) -> str:
    """Return the dtype of a tensor after the cast: integers and truth values stay as they are."""
    return target if target is not None and entry.dtype in _CAST else entry.dtype


def _has_quantisation(config: Mapping[str, Any]) -> bool:
    return any(
        key == "quantization_config" and bool(value)
        if key == "quantization_config" or not isinstance(value, dict)
        else _has_quantisation(value)
        for key, value in config.items()
    )
