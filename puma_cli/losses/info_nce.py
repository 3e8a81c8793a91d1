"""InfoNCE over in-batch candidates."""

from __future__ import annotations

from torch import Tensor, nn

from puma_cli.losses.contrast import contrast, unit
from puma_cli.losses.temperature import Temperature


class InfoNCE(nn.Module):
    """Contrastive loss: cross-entropy of cosine / temperature against each query's positive.

    Args:
        temperature: softmax temperature tau (> 0).
        symmetric: average with the candidate-to-query direction.
        learnable: train the temperature, which starts at the given one.
    """

    def __init__(
        self, temperature: float = 0.05, symmetric: bool = False, learnable: bool = False
    ) -> None:
        super().__init__()
        self.temperature = Temperature(temperature, learnable)
        self.symmetric = symmetric

    def forward(
        self,
        queries: Tensor,
        candidates: Tensor,
        target: Tensor | None = None,
        excluded: Tensor | None = None,
    ) -> Tensor:
        """Return the mean loss over the queries, a scalar.

        Args:
            queries: embeddings (B, D), normalised here.
            candidates: embeddings (C, D).
            target: index of each query's positive (B,); by default the diagonal.
            excluded: True where a candidate must not count as a negative (B, C); positives stay.
        """
        tau = self.temperature().to(unit(queries[:1]))
        return contrast(queries, candidates, lambda *_: tau, target, excluded, self.symmetric)
