"""Tiny random checkpoints of many architectures, lying on disk as the published ones do."""

from __future__ import annotations

from tests.zoo.collection import Zoo
from tests.zoo.member import ZooModel
from tests.zoo.text import TEXT_MODELS
from tests.zoo.vision_language import VISION_LANGUAGE_MODELS
from tests.zoo.writing import write_checkpoint

FAMILIES: dict[str, ZooModel] = {**VISION_LANGUAGE_MODELS, **TEXT_MODELS}
MULTIMODAL = frozenset(VISION_LANGUAGE_MODELS)

__all__ = ["FAMILIES", "MULTIMODAL", "Zoo", "ZooModel", "write_checkpoint"]
