"""The ways to read a cut out: as it is, through its bridge, or with the last layer kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from puma_cli.models.embedder import Embedder
from puma_cli.profiling.bridges.bridge import Bridge
from puma_cli.profiling.states.depth_states import DepthStates

FULL = "full"


@dataclass(frozen=True)
class Reading:
    """One way to use a cut for retrieval.

    Args:
        name: its key in a profile.
        queries: which vectors the queries are read as.
        candidates: which vectors the candidates are read as; `full` are the whole model's.
        label: what it is, for a reader.
    """

    name: str
    queries: str
    candidates: str
    label: str


READINGS = (
    Reading("first", "first", "first", "first k layers, untrained"),
    Reading("first_to_full", "first", FULL, "first k layers on the full model's index"),
    Reading("bridged", "bridged", "bridged", "first k layers and a bridge"),
    Reading("bridged_to_full", "bridged", FULL, "first k and a bridge on the full model's index"),
    Reading("keep_last", "keep_last", "keep_last", "first k - 1 and the last layer, untrained"),
    Reading("keep_last_bridged", "keep_last_bridged", "keep_last_bridged", "the same and a bridge"),
)

# The ways to cut, each with its readings without and with a bridge.
CUTS = {"first": ("first", "bridged"), "keep_last": ("keep_last", "keep_last_bridged")}


def read_depths(reading: str, depth: int) -> range:
    """Return the depths (0 to L) at which a reading says anything.

    A bridge of no layers says nothing, and of one layer the last would be left, which is no cut.
    """
    if reading.startswith("keep_last"):
        least = 2
    else:
        least = 0 if reading in ("first", "first_to_full") else 1
    return range(min(least, depth), depth + 1)


class Reader:
    """Turns the states of a batch into unit vectors at every depth, one tensor a way of reading.

    Args:
        embedder: the model at full depth L.
        bridges: for `bridged` and `keep_last_bridged` the fitted maps of some depths.
    """

    def __init__(self, embedder: Embedder, bridges: Mapping[str, Sequence[Bridge]]) -> None:
        self._embedder = embedder
        self._length = max(embedder.width, embedder.dimension)
        device = embedder.device
        self._maps = {
            name: (
                torch.tensor([bridge.fit.k for bridge in found], device=device),
                torch.stack([bridge.weight for bridge in found]).to(device),
                torch.stack([bridge.bias for bridge in found]).to(device),
            )
            for name, found in bridges.items()
            if found
        }

    def shapes(self, keep_last: bool) -> dict[str, tuple[int, int]]:
        """Return the depths and the length of what is read, by name.

        Args:
            keep_last: whether the states of cuts that keep the last layer are there.
        """
        every = (self._embedder.depth + 1, self._length)
        found = {"first": every, FULL: (1, self._length)}
        if keep_last:
            found["keep_last"] = every
        for name in self._maps:
            if keep_last or name != "keep_last_bridged":
                found[name] = every
        return found

    @torch.no_grad()
    def __call__(self, states: DepthStates) -> dict[str, Tensor]:
        """Return unit vectors (L + 1, B, D) by name, and those of the whole model as (1, B, D).

        At depth L every cut is the whole model. A depth that has no reading, such as a bridge of
        nothing, holds zeros, which retrieve nothing. Vectors of unequal length are filled up with
        zeros, which no cosine sees.
        """
        embedder = self._embedder
        first = embedder.read_out(states.embed)
        whole = self._unit(embedder.apply_head(first[-1]))
        out = {"first": self._unit(first), FULL: whole[None]}
        raw = {"bridged": first}
        if states.keep_last is not None:
            raw["keep_last_bridged"] = embedder.read_out(states.keep_last)
            out["keep_last"] = self._unit(raw["keep_last_bridged"])
            # Of one layer, the last alone would be left: no cut that anybody makes.
            out["keep_last"][:2] = 0.0
        for name, (depths, weight, bias) in self._maps.items():
            if name in raw:
                mapped = torch.baddbmm(bias[:, None], raw[name][depths].float(), weight)
                out[name] = torch.zeros_like(out["first"])
                out[name][depths] = self._unit(mapped)
        for name, vectors in out.items():
            if name != FULL:
                vectors[-1] = whole
        return out

    def _unit(self, states: Tensor) -> Tensor:
        vectors = normalize(states.float(), dim=-1)
        return pad(vectors, (0, self._length - vectors.shape[-1]))


def available(vectors: Mapping[str, Tensor], embedder: Embedder) -> list[Reading]:
    """Return the readings that such vectors allow.

    A cut's own vectors are compared with the whole model's only where both are of one length.
    """
    return [
        reading
        for reading in READINGS
        if reading.queries in vectors
        and (
            reading.candidates != FULL
            or reading.queries != "first"
            or embedder.width == embedder.dimension
        )
    ]
