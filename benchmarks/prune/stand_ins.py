"""Checkpoints with the names, shapes and dtypes of real models and none of their content.

    python benchmarks/prune/stand_ins.py qwen2-vl-7b runs/qwen2-vl-7b
    puma prune runs/qwen2-vl-7b --keep 12 --dry-run

The published models are made of holes: they take no space, and a plan, which reads headers only,
is that of the real ones. `--check` compares the names and shapes with what transformers' own class
wants (it builds the model without memory for its weights).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from published import gemma3_4b, llava_7b, qwen2_vl_2b, qwen2_vl_7b
from shapes import Shape, decoder_layer
from stand_in import StandIn


def llama(hidden: int, inner: int, vocabulary: int, per_shard: tuple[int, ...]) -> StandIn:
    """Return a Llama in bfloat16, whose files hold so many of its layers each."""
    heads = hidden // 64
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": sum(per_shard),
        "num_attention_heads": heads,
        "num_key_value_heads": max(heads // 8, 1),
        "head_dim": 64,
        "vocab_size": vocabulary,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    shards: list[dict[str, Shape]] = []
    first = 0
    for count in per_shard:
        shard: dict[str, Shape] = {}
        for layer in range(first, first + count):
            shard |= decoder_layer(f"model.layers.{layer}.", hidden, inner, max(heads // 8, 1))
        shards.append(shard)
        first += count
    shards[0] = {"model.embed_tokens.weight": (vocabulary, hidden), **shards[0]}
    shards[-1] |= {"model.norm.weight": (hidden,), "lm_head.weight": (vocabulary, hidden)}
    return StandIn(config, list(shards), "BF16", sparse=False)


STAND_INS: dict[str, Callable[[], StandIn]] = {
    # 24 layers: 2.7 GB and 0.7 GB; in the second form a cut to 12 keeps or drops whole files.
    "llama-2.7gb": lambda: llama(2048, 6656, 32000, (8, 8, 8)),
    "llama-2.7gb-aligned": lambda: llama(2048, 6656, 32000, (12, 12, 0)),
    "llama-0.7gb": lambda: llama(1024, 3328, 32000, (8, 8, 8)),
    "llama-tiny": lambda: llama(128, 256, 512, (8, 8, 8)),
    "llama-tiny-aligned": lambda: llama(128, 256, 512, (12, 12, 0)),
    "qwen2-vl-2b": qwen2_vl_2b,
    "qwen2-vl-7b": qwen2_vl_7b,
    "llava-1.5-7b": llava_7b,
    "gemma-3-4b": gemma3_4b,
}


def problems(folder: Path) -> Iterator[str]:
    """Yield in what a written stand-in differs from what transformers' own class wants."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder)
    _, report = getattr(transformers, config.architectures[0]).from_pretrained(
        folder, device_map="meta", output_loading_info=True
    )
    for kind, keys in report.items():
        yield from (f"{kind}: {key}" for key in sorted(map(str, keys)))


def main() -> int:
    """Write one stand-in."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=STAND_INS)
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--check", action="store_true", help="compare it with transformers' class")
    asked = parser.parse_args()
    STAND_INS[asked.name]().write(asked.folder)
    found = list(problems(asked.folder)) if asked.check else []
    print("\n".join(found) if found else asked.folder)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
