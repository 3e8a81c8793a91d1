"""The training objective: a weighted sum of the contrastive and the distillation terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from puma_cli.config.settings import LossSettings
from puma_cli.errors import ConfigError
from puma_cli.losses import (
    InfoNCE,
    MACLoss,
    feature_cosine,
    feature_mse,
    similarity_divergence,
)


@dataclass(frozen=True)
class Embeddings:
    """Un-normalised embeddings of a batch's queries and candidates, each (B, D)."""

    queries: Tensor
    candidates: Tensor


class Objective:
    """Adds up the terms that have a weight.

    With the recipe `paper-stage1`: 0.9 * InfoNCE + 0.1 * 0.05 * (MSE(q) + MSE(c)).

    Raises:
        ConfigError: the contrastive loss is unknown, a weight is negative or all are 0.
    """

    def __init__(self, settings: LossSettings) -> None:
        self.settings = settings
        weights = {
            name: getattr(settings, name)
            for name in ("contrastive_weight", "mse", "cosine", "similarity")
        }
        for name, weight in weights.items():
            if weight < 0:
                raise ConfigError(f"loss.{name} is {weight}, below 0.")
        if not any(weights.values()):
            raise ConfigError("Every weight of the loss is 0.", hint="Set loss.contrastive_weight.")
        if settings.temperature <= 0:
            raise ConfigError(f"loss.temperature is {settings.temperature}; it must be above 0.")
        if settings.contrastive not in ("info_nce", "mac"):
            raise ConfigError(
                f"{settings.contrastive!r} is no contrastive loss.", hint="Use info_nce or mac."
            )
        self._info_nce = InfoNCE(settings.temperature, settings.symmetric)
        self._mac = MACLoss(settings.temperature, settings.decay, settings.symmetric)

    @property
    def needs_teacher(self) -> bool:
        """Whether a term compares with the teacher."""
        return self.settings.needs_teacher

    def __call__(
        self,
        student: Embeddings,
        teacher: Embeddings | None,
        candidate_modality: Tensor,
        excluded: Tensor,
        progress: float,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum and the unweighted terms by name.

        Args:
            teacher: the teacher's states of the same inputs, or None without a teacher.
            candidate_modality: one code a candidate (B,).
            excluded: True where a candidate is no negative of a query (B, B).
            progress: share of the training that is done [0, 1].
        """
        settings = self.settings
        terms: dict[str, Tensor] = {}
        total = student.queries.new_zeros(())
        if settings.contrastive_weight:
            if settings.contrastive == "mac":
                term = self._mac(
                    student.queries,
                    student.candidates,
                    candidate_modality,
                    progress,
                    excluded=excluded,
                )
            else:
                term = self._info_nce(student.queries, student.candidates, excluded=excluded)
            terms[settings.contrastive] = term
            total = total + settings.contrastive_weight * term
        if teacher is None:
            return total, terms
        if settings.mse:
            terms["mse"] = _both_sides(feature_mse, student, teacher)
            total = total + settings.mse * terms["mse"]
        if settings.cosine:
            terms["cosine"] = _both_sides(feature_cosine, student, teacher)
            total = total + settings.cosine * terms["cosine"]
        if settings.similarity:
            terms["similarity"] = similarity_divergence(
                student.queries,
                student.candidates,
                teacher.queries,
                teacher.candidates,
                settings.temperature,
            )
            total = total + settings.similarity * terms["similarity"]
        return total, terms


def _both_sides(
    term: Callable[[Tensor, Tensor], Tensor], student: Embeddings, teacher: Embeddings
) -> Tensor:
    return term(student.queries, teacher.queries) + term(student.candidates, teacher.candidates)
