"""Low-rank adapters as PEFT writes them, read without it: what each adds to a weight."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from puma_cli.checkpoint.source import ADAPTER_CONFIG
from puma_cli.errors import CheckpointError

ADAPTER_WEIGHTS = "adapter_model.safetensors"

# Kinds of LoRA that compute something else, by the setting that asks for them.
_UNKNOWN = (
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "layer_replication",
    "modules_to_save",
    "trainable_token_indices",
    "target_parameters",
    "lora_bias",
    "fan_in_fan_out",
    "arrow_config",
    "corda_config",
)


@dataclass(frozen=True)
class Delta:
    """What is done to one weight.

    Args:
        down: (r, in).
        up: (out, r).
        scale: of their product.
        magnitude: the lengths of the rows of what comes out (out,), for DoRA, or None.
    """

    down: Tensor
    up: Tensor
    scale: float
    magnitude: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs of the weight."""
        return self.up.shape[0], self.down.shape[1]

    def merged(self, weight: Tensor) -> Tensor:
        """Return the weight (out, in) with its adapter, computed in float32, in its own format."""
        whole = weight.float() + self.scale * (self.up.float() @ self.down.float())
        if self.magnitude is not None:
            whole = whole * (self.magnitude.float() / whole.norm(dim=1)).unsqueeze(1)
        return whole.to(weight.dtype)


def read_deltas(folder: Path, config: Mapping[str, Any]) -> dict[str, Delta]:
    """Return what a folder's adapters add, by the plain names of weights.

    Raises:
        CheckpointError: they are no LoRA of a kind that is known, or their files are broken.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _check(folder / ADAPTER_CONFIG, config)
    try:
        tensors = load_file(folder / ADAPTER_WEIGHTS)
    except (OSError, SafetensorError) as error:
        problem = f"{folder / ADAPTER_WEIGHTS} cannot be read."
        raise CheckpointError(problem, cause=str(error)) from error
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        match = re.fullmatch(r"(.+)\.(lora_A|lora_B|lora_magnitude_vector)(?:\.weight)?", key)
        if match is None:
            raise CheckpointError(
                f"{folder / ADAPTER_WEIGHTS} holds {key}, which is no adapter of a linear layer.",
                cause="puma merges LoRA and DoRA of linear layers alone.",
            )
        parts.setdefault(match[1], {})[match[2]] = value
    found = {}
    for name, part in parts.items():
        if not {"lora_A", "lora_B"} <= set(part):
            raise CheckpointError(f"{folder / ADAPTER_WEIGHTS} holds half an adapter of {name}.")
        rank = part["lora_A"].shape[0]
        found[plain_name(f"{name}.weight")] = Delta(
            part["lora_A"],
            part["lora_B"],
            _scale(config, name.removeprefix("base_model.model."), rank),
            part.get("lora_magnitude_vector"),
        )
    if not found:
        raise CheckpointError(f"{folder / ADAPTER_WEIGHTS} holds no adapter.")
    return found


def _check(path: Path, config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise CheckpointError(
            f"{path} describes adapters of the kind {config.get('peft_type')}.",
            hint="puma merges LORA; others merge themselves with PEFT's merge_and_unload().",
        )
    for key in _UNKNOWN:
        if config.get(key):
            raise CheckpointError(
                f"{path} asks for {key} = {config[key]!r}, which puma does not merge.",
                hint="Merge it with PEFT's merge_and_unload(), and name that folder.",
            )
    if config.get("bias") not in (None, "none"):
        raise CheckpointError(f"{path} also trained biases, which puma does not merge.")


def _scale(config: Mapping[str, Any], name: str, rank: int) -> float:
    """Return alpha / r of a layer; patterns name single layers."""
    alpha = float(config.get("lora_alpha") or 8)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.fullmatch(rf"(?:.*\.)?{pattern}", name):
            alpha = float(value)
            break
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def plain_name(name: str) -> str:
    """Return a weight's name without what differs between releases and classes."""
    if "visual." in name:
        return "visual." + name.rsplit("visual.", 1)[1]
    return re.sub(r"^(?:base_model\.)?(?:model\.)*(?:language_model\.)?(?:model\.)?", "", name)
