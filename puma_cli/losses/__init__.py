"""The losses as a small library: usable without the rest of the toolkit."""

from puma_cli.losses.info_nce import InfoNCE
from puma_cli.losses.mac import MACLoss
from puma_cli.losses.self_distillation import (
    feature_cosine,
    feature_mse,
    similarity_divergence,
)

__all__ = ["InfoNCE", "MACLoss", "feature_cosine", "feature_mse", "similarity_divergence"]
