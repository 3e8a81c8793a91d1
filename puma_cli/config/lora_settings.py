"""What `puma distill` trains beside the weights themselves: adapters."""

from __future__ import annotations

from dataclasses import dataclass

ALL_TARGETS = "all"
UNQUANTIZED, NF4 = "none", "nf4"


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters on the decoder's linear layers; `rank` 0 trains the weights themselves.

    Args:
        rank: rank r of each adapter's product B A (>= 0).
        alpha: it counts alpha / r times (>= 1).
        dropout: share of an adapter's inputs that are dropped [0, 1).
        targets: ends of the names of the linear layers that get one, such as `q_proj,v_proj`, or
            `all`.
        quantize: `nf4` holds the linear layers below the adapters in 4 bits (QLoRA), `none` does
            not. What is written is the student's own weights plus the adapters in either case.
        base_dtype: number format of all weights that do not train: `float32`, `bfloat16`, or `auto`
            for float32, and for bfloat16 with `nf4` on CUDA.
        keep_adapter: write the adapters by themselves too, as `adapter/` in the format of PEFT.
    """

    rank: int = 0
    alpha: int = 256
    dropout: float = 0.05
    targets: tuple[str, ...] = (ALL_TARGETS,)
    quantize: str = UNQUANTIZED
    base_dtype: str = "auto"
    keep_adapter: bool = False
