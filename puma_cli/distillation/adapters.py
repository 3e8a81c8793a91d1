"""Low-rank adapters on a decoder's linear layers: where they go, and what they add up to."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from puma_cli.config.lora_settings import ALL_TARGETS, LoraSettings
from puma_cli.config.suggestion import did_you_mean
from puma_cli.distillation.embed_token import EmbedTokenRow
from puma_cli.distillation.gradients import whole_tensor
from puma_cli.errors import ConfigError
from puma_cli.models.embedder import Embedder
from puma_cli.models.quantization import quiet_bitsandbytes

# The decoder's linears only: the vision tower and the embeddings stay as they are.
_WITHIN = r"layers\.\d+\.(?:.*\.)?"
# The name that PEFT gives to the only adapter of a model.
_ONLY = "default"


@dataclass(frozen=True)
class Adapter:
    """Trained adapters by themselves, as PEFT reads them.

    Args:
        config: a `peft.LoraConfig`.
        weights: by PEFT's names, on the CPU.
    """

    config: Any
    weights: dict[str, Tensor]

    def save(self, folder: Path) -> None:
        """Write `adapter_config.json` and `adapter_model.safetensors` into a new folder."""
        folder.mkdir()
        self.config.save_pretrained(str(folder))
        save_file(self.weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def add_adapters(embedder: Embedder, lora: LoraSettings) -> Any:
    """Put an adapter on every target among the layers the decoder has now; return PEFT's model.

    The adapters start at zero: W x + (alpha / r) B A x with B = 0.

    Raises:
        ConfigError: a target is the name of no linear layer.
    """
    targets = "|".join(name.replace(".", r"\.") for name in chosen_targets(embedder, lora.targets))
    with quiet_bitsandbytes():
        from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=rf"(?:.*\.)?{re.escape(embedder.family.prefix)}{_WITHIN}(?:{targets})",
    )
    with warnings.catch_warnings():
        # It asks transformers by a name that transformers gives up: nothing a user can change.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return get_peft_model(embedder.model, config)


def chosen_targets(embedder: Embedder, asked: Sequence[str]) -> list[str]:
    """Return the names within a layer, or ends of them, that are asked for.

    Raises:
        ConfigError: one is the name of no linear layer; says which there are.
    """
    there = list(
        dict.fromkeys(
            name
            for layer in embedder.decoder.layers
            for name, module in layer.named_modules()
            if isinstance(module, nn.Linear)
        )
    )
    if tuple(asked) == (ALL_TARGETS,):
        return there
    ends = [name.rpartition(".")[2] for name in there]
    for name in asked:
        if not any(full == name or full.endswith(f".{name}") for full in there):
            raise ConfigError(
                f"lora.targets names {name!r}, which is no linear layer of the decoder.",
                cause=f"There are {', '.join(ends)}.",
                hint=did_you_mean(name, ends) or "Name some of them, or write all.",
            )
    if not asked:
        raise ConfigError("lora.targets is empty.", hint="Write all, or lora.rank=0.")
    return list(asked)


@torch.no_grad()
def deltas(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield what each adapter adds to a weight (out, in), by the weight's stock name."""
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight"):
            adapted: Any = module
            yield f"{name}.weight", adapted.get_delta_weight(_ONLY)


@torch.no_grad()
def merged_state(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of `model` by stock name, each adapter's product added to its base.

    Nothing is changed in place, so that training goes on from exactly the same numbers.
    """
    added = dict(deltas(model))
    for name, value in model.state_dict().items():
        if "lora_" in name:
            continue
        stock = name.replace(".base_layer.", ".")
        if stock in added:
            value = value + added[stock].to(value.dtype)
        yield stock, whole_tensor(value.detach())


@torch.no_grad()
def merge_into(original: Embedder, trained: Embedder) -> None:
    """Add the adapters of a network to the weights they were trained over, as these are on disk.

    Args:
        original: the same network in full precision and without adapters; it is changed.
    """
    for name, delta in deltas(trained.model):
        weight = original.model.get_parameter(name)
        weight += delta.to(weight)


@torch.no_grad()
def adapter_alone(
    model: Any, base: str, row: EmbedTokenRow | None, wanted: bool = True
) -> Adapter | None:
    """Return the adapters of PEFT's `model`; of a sharded network, all processes must ask.

    Args:
        base: the checkpoint that they belong on.
        row: a trained row of the embedding table, which goes with them.
        wanted: whether this process is the one that writes.
    """
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    found = get_peft_model_state_dict(model, save_embedding_layers=False)
    whole = {name: whole_tensor(value.detach()) for name, value in found.items()}
    if not wanted:
        return None
    weights = {name: value.cpu().contiguous() for name, value in whole.items()}
    ours = model.peft_config[_ONLY]
    config = LoraConfig(
        r=ours.r,
        lora_alpha=ours.lora_alpha,
        lora_dropout=ours.lora_dropout,
        target_modules=ours.target_modules,
        base_model_name_or_path=base,
        inference_mode=True,
    )
    if row is not None:
        # PEFT keeps the trained rows themselves under this name.
        table = next(
            name
            for name, _ in model.base_model.model.named_modules()
            if name.endswith("embed_tokens")
        )
        name = f"base_model.model.{table}.token_adapter.trainable_tokens_delta"
        weights[name] = row.row.detach().cpu().unsqueeze(0).clone()
        config.trainable_token_indices = {"embed_tokens": [row.token]}
    return Adapter(config, weights)
