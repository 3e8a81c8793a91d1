"""A peer: load the model, slice its layers, save it, as one would with transformers alone.

python benchmarks/prune/slice_with_transformers.py MODEL LAYERS OUT
"""

from __future__ import annotations

import sys

from transformers import AutoModelForCausalLM


def main(folder: str, layers: int, out: str) -> None:
    """Cut a text model to its first layers."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    model.model.layers = model.model.layers[:layers]
    model.config.num_hidden_layers = layers
    model.save_pretrained(out)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
