"""The architectures that puma embeds with, by `model_type`; known without importing torch."""

from __future__ import annotations

from typing import Final

VISION_LANGUAGE: Final = frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl"})
TEXT: Final = frozenset({"qwen2", "qwen3"})
EMBEDS: Final = VISION_LANGUAGE | TEXT
