"""The one row of the embedding table that embeddings are read at, trained by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class EmbedTokenRow(nn.Module):
    """A row that stands in for the table's own, where and while that is asked for.

    The table is never written to, so a teacher that reads the same one sees what it always saw.

    Args:
        table: the token embeddings (V, D).
        token: the row's number in it.
    """

    def __init__(self, table: nn.Embedding, token: int) -> None:
        super().__init__()
        self.token = token
        # As wide as all that trains: small steps would be lost in bfloat16.
        wide = torch.promote_types(table.weight.dtype, torch.float32)
        self.row = nn.Parameter(table.weight[token].detach().to(wide, copy=True))
        self._on = False
        table.register_forward_hook(self._put)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Let the row stand in while the context is open."""
        before, self._on = self._on, True
        try:
            yield
        finally:
            self._on = before

    def merged(self, table: Tensor) -> Tensor:
        """Return a copy of a table (V, D) that has the row in its place."""
        copy = table.clone()
        copy[self.token] = self.row.detach().to(copy)
        return copy

    def _put(self, _: nn.Module, args: tuple[Tensor, ...], output: Any) -> Any:
        if not self._on:
            return output
        here = (args[0] == self.token).unsqueeze(-1)
        return torch.where(here, self.row.to(output.dtype), output)
