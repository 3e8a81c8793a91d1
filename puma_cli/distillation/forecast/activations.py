"""What one pass through the student leaves for its way back, counted operation by operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puma_cli.distillation.forecast.network import Network, count
from puma_cli.models.batch_plan import InputSize

# Bytes of a number in float32, and in the bfloat16 of mixed precision.
FULL, HALF = 4, 2


@dataclass(frozen=True)
class Pass:
    """Inputs that go through the network together.

    Args:
        rows: how many they are.
        width: tokens of the longest, which the others are padded to.
        patches: patches of all their images.
    """

    rows: int
    width: int
    patches: int = 0

    @property
    def tokens(self) -> int:
        """Tokens, with padding."""
        return self.rows * self.width


def pass_of(sizes: Sequence[InputSize], pixels: int) -> Pass:
    """Return the pass of some inputs.

    Args:
        pixels: pixels of a patch.
    """
    patches = sum(size.pixels for size in sizes) // pixels
    return Pass(len(sizes), max(size.tokens for size in sizes), patches)


@dataclass(frozen=True)
class Trained:
    """What of a student moves, and in which numbers it computes.

    Args:
        rank: of its adapters, 0 for the weights themselves.
        dropout: whether adapters drop some of what they read.
        vision: whether its vision tower trains.
        embeddings: whether its token embeddings train.
        mixed: under bfloat16 autocast.
        cuda: whether a GPU computes, which keeps a dropout's mask in a byte a number.
        checkpointed: whether only the input of each layer is kept.
    """

    rank: int = 0
    dropout: bool = False
    vision: bool = False
    embeddings: bool = False
    mixed: bool = False
    cuda: bool = False
    checkpointed: bool = False


def kept_bytes(network: Network, how: Trained, one: Pass) -> int:
    """Return the bytes that one pass keeps for its way back.

    The layers are those of Qwen2-VL with the attention that torch has built in, which keeps no
    scores. The bfloat16 copies of the weights that mixed precision computes with are among them.
    """
    width, tokens = network.width, one.tokens
    if how.checkpointed:
        layers = network.depth * tokens * width * FULL
    else:
        layer = tokens * _per_token(network, how) + _copies(network, how)
        # What enters the first layer has no gradient unless images or words do.
        first = 0 if how.vision or how.embeddings else tokens * _unasked(network, how)
        layers = network.depth * layer - first
    # The final norm's input and length, and what it scales if its scale trains.
    norm = (1 if how.rank else 2) * width + 1
    # The positions' angles.
    angles = 0 if how.checkpointed else 2 * (network.linear("q_proj")[0] // network.heads)
    total = layers + tokens * (norm + angles) * FULL
    return total + (_vision(network, how, one) if how.vision else 0)


def computed_again(network: Network, how: Trained, one: Pass) -> int:
    """Return the bytes of the one layer that is computed again at a time, with checkpoints."""
    if not how.checkpointed:
        return 0
    layer = one.tokens * _per_token(network, how) + _copies(network, how)
    return max(layer, one.patches * _block(network, how)) if how.vision else layer


def _per_token(network: Network, how: Trained) -> int:
    """Return the bytes of a token in a decoder layer."""
    width, (inner, _) = network.width, network.linear("gate_proj")
    asked, keys = network.linear("q_proj")[0], network.linear("k_proj")[0]
    number = HALF if how.mixed else FULL
    # Without a mask, keys and values are not repeated for every head.
    attention = number * (2 * asked + 2 * keys) + FULL * network.heads
    # Both norms: what they read and its length; what they scale, if the scales train.
    norms = FULL * ((2 if how.rank else 4) * width + 2)
    if not how.rank:
        read = 5 * width * HALF if how.mixed else 2 * width * FULL
        return norms + attention + read + number * 4 * inner
    # Each adapter reads its own copy, cast or thinned out, and what is left is r numbers.
    copies = 5 * width + asked + inner
    if not how.dropout and not how.mixed:
        copies = 2 * width + inner
    mask = (1 if how.cuda else FULL) * (5 * width + asked + inner) if how.dropout else 0
    ranks = number * len(network.linears()) * how.rank
    return norms + attention + number * (copies + 3 * inner) + mask + ranks


def _unasked(network: Network, how: Trained) -> int:
    """Return the bytes of a token that the first layer does without."""
    mask = (1 if how.cuda else FULL) * 3 * network.width if how.rank and how.dropout else 0
    return FULL * network.width + mask


def _copies(network: Network, how: Trained) -> int:
    """Return the bytes of a layer's weights in bfloat16, which every pass makes for itself."""
    if not how.mixed:
        return 0
    linears = network.linears()
    adapters = sum(how.rank * (outputs + inputs) for outputs, inputs in linears)
    return HALF * (count(linears) + adapters)


def _vision(network: Network, how: Trained, one: Pass) -> int:
    """Return the bytes of a tower that trains."""
    if not one.patches:
        return 0
    tower, number = network.tower, HALF if how.mixed else FULL
    block = number * tower.width if how.checkpointed else _block(network, how)
    merger = ((FULL if how.cuda else number) + 3 * number) * tower.width
    angles = 0 if how.checkpointed else 2 * FULL * (tower.width // tower.heads)
    per_patch = tower.blocks * block + merger + angles + number * tower.patch
    # The projection of the patches has no gradient to lead on, and keeps no copy of its weights.
    copied = [shape for shape in network.vision if len(shape) < 5]
    weights = HALF * count(copied) if how.mixed else 0
    return one.patches * per_patch + weights


def _block(network: Network, how: Trained) -> int:
    """Return the bytes of a patch in a block of the tower."""
    tower, number = network.tower, HALF if how.mixed else FULL
    # Queries, keys and values in one, the turned queries and keys, what attention gives, twice.
    attention = number * 7 * tower.width + FULL * tower.heads
    # On a GPU autocast has norms read float32; the stream itself is what the patches came in.
    read = FULL if how.cuda else number
    norms = (4 if tower.gated else 2) * read * tower.width + 4 * FULL + number * 2 * tower.width
    return attention + norms + number * (4 if tower.gated else 3) * tower.inner
