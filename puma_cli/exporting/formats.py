"""The formats of an export, and what opens them."""

from __future__ import annotations

TRANSFORMERS, SENTENCE_TRANSFORMERS, VLLM = "transformers", "sentence-transformers", "vllm"
FORMATS = (TRANSFORMERS, SENTENCE_TRANSFORMERS, VLLM)
ALL = "all"
PARITY = "parity.json"
# Loaders that a format is opened with. vLLM needs a GPU; transformers finds its names too.
LOADERS = {
    TRANSFORMERS: (TRANSFORMERS,),
    SENTENCE_TRANSFORMERS: (TRANSFORMERS, SENTENCE_TRANSFORMERS),
    VLLM: (TRANSFORMERS,),
}
