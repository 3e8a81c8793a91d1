"""The training objective: a weighted sum of the contrastive and the distillation terms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from puma_cli.config.training_settings import DISTILLING, LossSettings
from puma_cli.data.records import MODALITIES
from puma_cli.errors import ConfigError
from puma_cli.losses import (
    InfoNCE,
    Labels,
    MACLoss,
    false_negatives,
    feature_cosine,
    feature_mse,
    gram_mse,
    over_prefixes,
    similarity_divergence,
)


@dataclass(frozen=True)
class Embeddings:
    """Un-normalised embeddings of a batch's queries (B, D) and candidates (C, D).

    Args:
        inner: read-outs of inner layers of both, side by side (B + C, H * D), if there are any.
    """

    queries: Tensor
    candidates: Tensor
    inner: Tensor | None = None

    @classmethod
    def of(cls, rows: Tensor, queries: int, inner: int = 0) -> Embeddings:
        """Take apart the rows of a batch, queries first (B + C, D + inner).

        Args:
            queries: how many of the rows are queries (B).
            inner: numbers at the end of a row that are read-outs of inner layers.
        """
        width = rows.shape[1] - inner
        own = rows[:, :width]
        return cls(own[:queries], own[queries:], rows[:, width:] if inner else None)

    @property
    def everything(self) -> Tensor:
        """Queries and candidates (B + C, D)."""
        return torch.cat([self.queries, self.candidates])


class Objective(nn.Module):
    """Adds up the terms that have a weight.

    With the recipe `paper-stage1`: 0.9 * InfoNCE + 0.1 * 0.05 * (MSE(q) + MSE(c)).

    Args:
        settings: weights and temperatures.

    Raises:
        ConfigError: the contrastive loss is unknown, a weight is negative, all are 0, or settings
            do not go together.
    """

    def __init__(self, settings: LossSettings) -> None:
        super().__init__()
        self.settings = settings
        _check(settings)
        self.projection: nn.Linear | None = None
        self.contrastive: InfoNCE | MACLoss = (
            MACLoss(
                _table(settings),
                settings.decay,
                settings.symmetric,
                settings.learn_temperature,
            )
            if settings.contrastive == "mac"
            else InfoNCE(settings.temperature, settings.symmetric, settings.learn_temperature)
        )

    @property
    def needs_teacher(self) -> bool:
        """Whether a term or a mask asks the teacher."""
        return self.settings.needs_teacher

    def trained_with(self, model: nn.Module) -> nn.Module:
        """Return what is trained in one module: the model, and a learned temperature."""
        if not any(parameter.requires_grad for parameter in self.parameters()):
            return model
        return nn.ModuleDict({"model": model, "objective": self})

    def temperatures(self, progress: float) -> dict[str, float]:
        """Return the temperatures in use by name, at a share of the training that is done."""
        if not self.settings.contrastive_weight:
            return {}
        now = self.contrastive.temperature().detach()
        if now.ndim == 0:
            named = {"temperature": float(now)}
        else:
            named = {
                f"temperature {query} > {candidate}": float(now[i, j])
                for i, query in enumerate(MODALITIES)
                for j, candidate in enumerate(MODALITIES)
            }
        if isinstance(self.contrastive, MACLoss):
            named["sharpening"] = self.contrastive.sharpening(progress)
        return named

    def add_projection(self, student: int, teacher: int) -> None:
        """Make room for the map between embeddings of these lengths, to be fitted before use."""
        if self.settings.projection != "none":
            self.projection = nn.Linear(student, teacher)
            self.projection.requires_grad_(self.settings.projection == "learned")

    def forward(
        self,
        student: Embeddings,
        teacher: Embeddings | None,
        labels: Labels,
        progress: float,
        bank: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum and the unweighted terms by name.

        `masked` among them is the share of query-candidate pairs that are left out.

        Args:
            teacher: the teacher's states of the same inputs, or None without a teacher.
            progress: share of the training that is done [0, 1].
            bank: other embeddings of the teacher (M, D_t), if a term asks for them.
        """
        settings = self.settings
        terms: dict[str, Tensor] = {}
        total = student.queries.new_zeros(())
        if settings.contrastive_weight:
            excluded = self._excluded(teacher, labels)
            terms[settings.contrastive] = self._contrast(student, excluded, labels, progress)
            total = total + settings.contrastive_weight * terms[settings.contrastive]
            terms["masked"] = excluded.float().mean()
        if teacher is None:
            return total, terms
        for name, value in self._distil(student, teacher, bank):
            terms[name] = value
            total = total + getattr(settings, name) * value
        return total, terms

    def _distil(
        self, student: Embeddings, teacher: Embeddings, bank: Tensor | None
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the terms between student and teacher that have a weight."""
        settings, mapped = self.settings, student
        if self.projection is not None:
            rows = self.projection(student.everything.to(self.projection.weight))
            mapped = Embeddings.of(rows, len(student.queries))
        for name, (term, maps) in _ON_BOTH_SIDES.items():
            if getattr(settings, name):
                yield name, _both_sides(term, mapped if maps else student, teacher)
        if settings.similarity:
            yield (
                "similarity",
                similarity_divergence(
                    student.queries,
                    student.candidates,
                    teacher.queries,
                    teacher.candidates,
                    settings.temperature,
                ),
            )
        if settings.bank and bank is not None:
            ours, theirs = mapped.everything, teacher.everything
            found = similarity_divergence(ours, bank, theirs, bank, settings.temperature)
            yield "bank", found
        if settings.hints and student.inner is not None and teacher.inner is not None:
            yield "hints", feature_mse(student.inner, teacher.inner)

    def _excluded(self, teacher: Embeddings | None, labels: Labels) -> Tensor:
        margin = self.settings.false_negative_margin
        if margin is None or teacher is None:
            return labels.excluded
        likely = false_negatives(teacher.queries, teacher.candidates, labels.target, margin)
        return labels.excluded | likely

    def _contrast(
        self, student: Embeddings, excluded: Tensor, labels: Labels, progress: float
    ) -> Tensor:
        def loss(queries: Tensor, candidates: Tensor) -> Tensor:
            known: dict[str, Any] = {"target": labels.target, "excluded": excluded}
            if isinstance(self.contrastive, MACLoss):
                known["candidate_modality"] = labels.candidate_modality
                known["query_modality"] = labels.query_modality
                known["progress"] = progress
            found: Tensor = self.contrastive(queries, candidates, **known)
            return found

        dimension = student.queries.shape[-1]
        lengths = prefixes(self.settings, dimension)
        return over_prefixes(loss, student.queries, student.candidates, lengths)


# Terms between a student's and a teacher's embeddings of the same inputs, by their setting, and
# whether they compare entries, so that a projection comes first.
_ON_BOTH_SIDES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], bool]] = {
    "mse": (feature_mse, True),
    "cosine": (feature_cosine, True),
    "gram": (gram_mse, False),
}


def _both_sides(
    term: Callable[[Tensor, Tensor], Tensor], student: Embeddings, teacher: Embeddings
) -> Tensor:
    return term(student.queries, teacher.queries) + term(student.candidates, teacher.candidates)


def _check(settings: LossSettings) -> None:
    weights = {name: getattr(settings, name) for name in ("contrastive_weight", *DISTILLING)}
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
    for name in ("temperatures", "dimensions", "false_negative_margin", "learn_temperature"):
        if getattr(settings, name) and not settings.contrastive_weight:
            raise ConfigError(
                f"loss.{name} is set, but loss.contrastive_weight is 0.",
                cause="It is part of the contrastive term.",
            )
    if settings.temperatures and settings.contrastive != "mac":
        raise ConfigError(
            "loss.temperatures is set, but loss.contrastive is info_nce.",
            cause="InfoNCE has one temperature.",
            hint="Set loss.contrastive=mac, and loss.decay=0 for InfoNCE with these temperatures.",
        )
    if len(settings.temperatures) not in (0, len(MODALITIES) ** 2):
        raise ConfigError(
            f"loss.temperatures has {len(settings.temperatures)} values.",
            cause="It has nine: three modalities of queries by three of candidates.",
        )


def _table(settings: LossSettings) -> float | Tensor:
    if not settings.temperatures:
        return settings.temperature
    sides = len(MODALITIES)
    return torch.tensor(settings.temperatures, dtype=torch.float64).view(sides, sides)


def prefixes(settings: LossSettings, dimension: int) -> tuple[int, ...]:
    """Return the lengths that embeddings of `dimension` entries are trained at, itself the last.

    Raises:
        ConfigError: a length of the settings is longer.
    """
    longest = max(settings.dimensions, default=0)
    if longest > dimension:
        raise ConfigError(
            f"loss.dimensions names {longest}, but the embeddings have {dimension:,} dimensions."
        )
    return tuple(sorted({*settings.dimensions, dimension}))
