"""Which inputs the similarity of layers is measured on, and the sums over them, by modality."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from puma_cli.data.records import MODALITIES
from puma_cli.models.inputs import Input
from puma_cli.models.processing import Batch
from puma_cli.processes import Processes
from puma_cli.profiling.similarity.accumulator import SimilarityAccumulator
from puma_cli.profiling.similarity.measures import LayerSimilarity
from puma_cli.profiling.similarity.tokens import ABSENT, TOKENS_PER_INPUT, is_sink, sample_places
from puma_cli.profiling.states.depth_states import DepthStates

# Of each side; a row is one state at every depth. CKA compares all pairs of rows.
KEPT_ROWS = 1_000
TOKEN_INPUTS = KEPT_ROWS // TOKENS_PER_INPUT


class LayerProbe:
    """Measures the layers on one side's inputs while they pass through the model.

    Args:
        side: `query` or `candidate`.
        depth: number of decoder layers L.
        inputs: everything that will pass, in the order of the places given to `add`.
        seed: seed of the draw of inputs whose rows are kept and of whose tokens some are read.
        removed: dimensions that the trimmed cosine leaves out.
        tokens: whether to read tokens besides the embed token, and to compute CKA.
    """

    def __init__(
        self,
        side: str,
        depth: int,
        inputs: Sequence[Input],
        *,
        seed: int = 0,
        removed: Tensor | None = None,
        tokens: bool = True,
    ) -> None:
        self.side = side
        self._depth, self._seed, self._removed = depth, seed, removed
        self._modalities = [entry.modality for entry in inputs]
        self._sums: dict[tuple[str, str], SimilarityAccumulator] = {}
        self._kept = torch.zeros(len(inputs), dtype=torch.bool)
        self._with_tokens = torch.zeros(len(inputs), dtype=torch.bool)
        if tokens:
            for name, group in _groups(self._modalities).items():
                drawn = np.random.default_rng([seed, MODALITIES.index(name)]).permutation(group)
                groups = len(set(self._modalities))
                self._kept[drawn[: KEPT_ROWS // groups]] = True
                self._with_tokens[drawn[: TOKEN_INPUTS // groups]] = True

    def places(self, chosen: Sequence[int], batch: Batch) -> Tensor | None:
        """Return the tokens to read of a batch (B, M), -1 for none, or None if there are none."""
        asked = self._with_tokens[list(chosen)]
        if not bool(asked.any()):
            return None
        lengths = (batch.last.cpu() + 1).tolist()
        keys = [f"{self.side}/{place}" for place in chosen]
        places = sample_places(lengths, keys, self._seed)
        places[~asked] = ABSENT
        return places

    def add(self, chosen: Sequence[int], states: DepthStates, places: Tensor | None) -> None:
        """Take in the states of a batch.

        Args:
            chosen: the places of its inputs.
            states: what was read of them.
            places: what `places` returned for it.

        Raises:
            NumericError: a layer's output is not finite.
        """
        names = [self._modalities[place] for place in chosen]
        kept = self._kept[list(chosen)]
        for name, group in _groups(names).items():
            self._sum("embed", name).add(states.embed[:, group], kept[group])
        if states.tokens is None or places is None:
            return
        owners = torch.nonzero(places >= 0, as_tuple=True)[0].tolist()
        sinks = is_sink(states.tokens).cpu()
        for name, group in _groups([names[owner] for owner in owners]).items():
            real = [row for row in group if not sinks[row]]
            sums = self._sum("tokens", name)
            sums.exclude(len(group) - len(real))
            if real:
                rows = states.tokens[:, real]
                sums.add(rows, torch.ones(len(real), dtype=torch.bool))

    def merge(self, processes: Processes) -> None:
        """Put together what the processes measured, each on its share of the inputs."""
        first, *others = processes.gather({key: sums.cpu() for key, sums in self._sums.items()})
        self._sums = first
        for found in others:
            for (place, name), sums in found.items():
                self._sum(place, name).merge(sums)

    def results(self) -> list[LayerSimilarity]:
        """Return the measures by place and modality; groups without a row are left out."""
        return [
            self._sums[place, name].result()
            for place in ("embed", "tokens")
            for name in MODALITIES
            if (place, name) in self._sums and self._sums[place, name].count
        ]

    def _sum(self, place: str, modality: str) -> SimilarityAccumulator:
        key = place, modality
        if key not in self._sums:
            self._sums[key] = SimilarityAccumulator(
                self.side, modality, self._depth, place, self._removed
            )
        return self._sums[key]


def _groups(names: Sequence[str]) -> dict[str, list[int]]:
    """Return the places of each name, in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        groups.setdefault(name, []).append(place)
    return groups
