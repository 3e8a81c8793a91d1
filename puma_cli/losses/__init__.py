"""The losses as a small library: usable without the rest of the toolkit."""

from puma_cli.losses.info_nce import InfoNCE
from puma_cli.losses.labels import Labels
from puma_cli.losses.mac import MACLoss
from puma_cli.losses.masking import false_negatives
from puma_cli.losses.matryoshka import over_prefixes
from puma_cli.losses.self_distillation import (
    feature_cosine,
    feature_mse,
    gram_mse,
    similarity_divergence,
)
from puma_cli.losses.statistics import batch_accuracy
from puma_cli.losses.temperature import Temperature

__all__ = [
    "InfoNCE",
    "Labels",
    "MACLoss",
    "Temperature",
    "batch_accuracy",
    "false_negatives",
    "feature_cosine",
    "feature_mse",
    "gram_mse",
    "over_prefixes",
    "similarity_divergence",
]
