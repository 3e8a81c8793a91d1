"""The changes that a cut makes to a raw `config.json`, and to nothing else in it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from puma_cli.errors import CheckpointError

# Architectures whose decoder is uniform but for the fields edited here, and their base classes.
BASE_CLASSES = {"qwen2_vl": "Qwen2VLModel", "qwen2_5_vl": "Qwen2_5_VLModel"}
_DEPTH = "num_hidden_layers"
_TYPES = "layer_types"
_WINDOW = "max_window_layers"
_TEXT = "text_config"


@dataclass(frozen=True)
class ConfigChange:
    """One field that a cut changes; `key` is dotted where it is nested."""

    key: str
    before: Any
    after: Any


def check_supported(config: dict[str, Any], name: str) -> None:
    """Raise CheckpointError unless checkpoints of this architecture can be cut safely."""
    model_type = config.get("model_type")
    if model_type not in BASE_CLASSES:
        raise CheckpointError(
            f"`{name}` is of the architecture `{model_type}`, which this version does not cut.",
            cause="Each architecture has fields of its own that depend on the layers; a cut that "
            "misses one loads and computes something else.",
            hint=f"This version cuts {' and '.join(BASE_CLASSES)}.",
        )


def config_depth(config: dict[str, Any]) -> int:
    """Return the decoder depth that a config states, where transformers reads it.

    Raises:
        CheckpointError: it states none.
    """
    for section in (config.get(_TEXT), config):
        if isinstance(section, dict) and isinstance(section.get(_DEPTH), int):
            return int(section[_DEPTH])
    raise CheckpointError(f"config.json states no {_DEPTH}.")


def edited_config(
    config: dict[str, Any], kept: Sequence[int], *, headless: bool
) -> tuple[dict[str, Any], tuple[ConfigChange, ...]]:
    """Return the config of the cut model and what changed in it.

    Args:
        config: the parent's raw config; not modified.
        kept: ascending indices of the layers that stay.
        headless: an untied LM head is left out, so no class that needs one may be named.

    Raises:
        CheckpointError: the cut cannot be expressed in such a config.
    """
    edited = copy.deepcopy(config)
    changes: list[ConfigChange] = []
    for prefix, section in (("", edited), (f"{_TEXT}.", edited.get(_TEXT))):
        if isinstance(section, dict):
            changes += _edit_section(section, kept, prefix)
    if headless:
        base = [BASE_CLASSES[config["model_type"]]]
        if config.get("architectures") != base:
            changes.append(ConfigChange("architectures", config.get("architectures"), base))
            edited["architectures"] = base
    return edited, tuple(changes)


def _edit_section(section: dict[str, Any], kept: Sequence[int], prefix: str) -> list[ConfigChange]:
    before = dict(section)
    depth = before.get(_DEPTH)
    types = before.get(_TYPES)
    if isinstance(types, list):
        if len(types) <= max(kept):
            raise CheckpointError(
                f"config.json has {len(types)} {prefix}{_TYPES} for more layers.",
                hint="Download or copy the checkpoint again.",
            )
        section[_TYPES] = [types[layer] for layer in kept]
    elif before.get("use_sliding_window") and list(kept) != list(range(len(kept))):
        # Without a list, whether a layer slides follows from its position, which would change.
        raise CheckpointError(
            "Only first layers can be kept of this checkpoint.",
            cause="Its sliding-window layers are told by their position alone.",
            hint="Use --keep.",
        )
    if isinstance(depth, int):
        section[_DEPTH] = len(kept)
    if isinstance(before.get(_WINDOW), int):
        section[_WINDOW] = min(before[_WINDOW], len(kept))
    return [
        ConfigChange(prefix + key, before[key], section[key])
        for key in (_DEPTH, _TYPES, _WINDOW)
        if key in before and before[key] != section[key]
    ]
