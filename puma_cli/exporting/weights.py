"""The weights and the config of an exported folder."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from puma_cli.errors import CheckpointError
from puma_cli.pruning.planning.plan import PrunePlan, depth_of, make_plan


@dataclass(frozen=True)
class Naming:
    """How vLLM wants a model's tensors and class to be named.

    Args:
        architecture: the class in its registry.
        decoder: prefix of the decoder's tensors.
        vision: prefix of the vision tower's.
    """

    architecture: str
    decoder: str
    vision: str = "visual."


# vLLM finds a decoder under these names only; bare `language_model.layers.` it does not know.
VLLM: Mapping[str, Naming] = {
    "qwen2_vl": Naming("Qwen2VLForConditionalGeneration", "model."),
    "qwen2_5_vl": Naming("Qwen2_5_VLForConditionalGeneration", "model."),
    "qwen3_vl": Naming("Qwen3VLForConditionalGeneration", "model.language_model.", "model.visual."),
    "qwen2": Naming("Qwen2ForCausalLM", "model."),
    "qwen3": Naming("Qwen3ForCausalLM", "model."),
}
_VISION = re.compile(r"^(?:model\.)?visual\.")
_DECODER = re.compile(r"^(?:model\.language_model\.|language_model\.(?:model\.)?|model\.)?")


def plan_weights(folder: Path, dtype: str, vllm: bool) -> PrunePlan:
    """Return the plan of a copy of all layers, without an LM head, whose weights are named so.

    Args:
        dtype: number format of the copy, or `auto`.
        vllm: name everything as vLLM does.

    Raises:
        CheckpointError: the checkpoint is broken, or of an architecture that vLLM's names are not
            known of.
    """
    plan = make_plan(folder, range(depth_of(folder)), head="auto", dtype=dtype)
    if not vllm:
        return plan
    model_type = str(plan.config.get("model_type"))
    naming = VLLM.get(model_type)
    if naming is None:
        raise CheckpointError(
            f"How vLLM names the weights of a `{model_type}` is not known.",
            hint=f"Known are {', '.join(VLLM)}; --format transformers or sentence-transformers "
            "take any.",
        )
    moves = tuple(
        replace(move, name=renamed(move.name, naming))
        for move in plan.moves
        if not move.name.endswith("lm_head.weight")
    )
    return replace(plan, moves=moves, config=_as_generator(plan.config, naming))


def renamed(name: str, naming: Naming) -> str:
    """Return the name of a tensor in vLLM's layout."""
    if _VISION.match(name):
        return _VISION.sub(naming.vision, name)
    return _DECODER.sub(naming.decoder, name, count=1)


def _as_generator(config: dict[str, Any], naming: Naming) -> dict[str, Any]:
    """Return the config of a class with an LM head that is the embedding table.

    Without a head of its own, some versions of vLLM refuse to start unless the two are tied.
    """
    edited = copy.deepcopy(config)
    edited["architectures"] = [naming.architecture]
    edited["tie_word_embeddings"] = True
    if isinstance(edited.get("text_config"), dict):
        edited["text_config"]["tie_word_embeddings"] = True
    return edited
