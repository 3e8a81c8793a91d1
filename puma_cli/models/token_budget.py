"""How many tokens one pass through a network takes at best, by what the device has room for."""

from __future__ import annotations

from typing import Any

import torch

# More tokens at once save nothing on a CPU: a layer's activations should stay in its caches.
CPU_TOKENS = 2_048
OTHER_TOKENS = 8_192
# Beyond this a GPU is busy anyhow; below it, one that has no more room may still work.
LARGEST, SMALLEST = 65_536, 2_048
# Of the memory that is free beside the weights; collation ahead and fragments take some.
SHARE = 0.4


def batch_tokens(model: Any, device: torch.device) -> int:
    """Return how many tokens, with their padding, a batch should have on a device.

    On a CPU 2,048. On a GPU as many as fit in 40% of what is free beside the weights, 2,048 to
    65,536; elsewhere 8,192.

    Args:
        model: a network on the device.
    """
    if device.type == "cpu":
        return CPU_TOKENS
    if device.type != "cuda":
        return OTHER_TOKENS
    free, _ = torch.cuda.mem_get_info(device)
    # What torch holds for the next tensors is free to them too.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return fitting_tokens(model.config, free)


def fitting_tokens(config: Any, free: int) -> int:
    """Return how many tokens fit into so many free bytes, within the bounds."""
    fitting = int(SHARE * free / bytes_per_token(config))
    return max(SMALLEST, min(LARGEST, fitting))


def bytes_per_token(config: Any) -> int:
    """Return what a token takes in a pass without gradients, in bytes of half precision.

    It is one of an image, if there can be one: the tower sees that as `merge**2` patches, several
    at once of each activation.
    """
    text, vision = config.get_text_config(), getattr(config, "vision_config", None)
    decoder = 8 * text.hidden_size + 3 * text.intermediate_size
    if vision is None:
        return int(2 * decoder)
    width = getattr(vision, "embed_dim", None) or vision.hidden_size
    inner = getattr(vision, "intermediate_size", None) or int(width * vision.mlp_ratio)
    patches = vision.spatial_merge_size**2
    return 2 * max(decoder, patches * (8 * width + 3 * inner))
