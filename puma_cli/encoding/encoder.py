"""A checkpoint as evaluation sees it: inputs in, vectors out, from a store where it has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from puma_cli.config.settings import EvaluateSettings
from puma_cli.encoding.cache_folder import HASHES, VECTORS, cache_folder
from puma_cli.encoding.file_hashes import FileHashes
from puma_cli.encoding.fill import Filling
from puma_cli.encoding.identity import model_content
from puma_cli.encoding.store import VectorStore
from puma_cli.encoding.vectors import InMemory, Vectors
from puma_cli.models.devices import DTYPES, choose_device, choose_dtype, name_device
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from puma_cli.processes import ALONE, Processes
from puma_cli.progress import SILENT, Reporter

# Characters of a hash that name a store's folder.
_NAME = 32


class StoredEncoder:
    """A checkpoint that embeds what its store lacks; its weights are opened when something does.

    Args:
        folder: the checkpoint.
        settings: device, number formats, bounds of a batch, and where the cache is.
        name: the model as the user named it, for `puma cache list`.
        processes: those that share the work; each gets all vectors.
    """

    def __init__(
        self,
        folder: Path,
        settings: EvaluateSettings,
        name: str = "",
        processes: Processes = ALONE,
    ) -> None:
        self.folder, self._settings, self._processes = folder, settings, processes
        self.device = choose_device(settings.device)
        self.dtype = choose_dtype(settings.dtype, self.device)
        self.model: Any = None
        """The torch module, once it was opened."""
        self._tokens: int | None = None
        self._asked = 0
        self._shares = [0]
        cache = cache_folder(settings.cache_dir) if settings.cache else None
        hashes = FileHashes(cache and cache / HASHES, settings.rehash)
        self._filling = Filling(
            self._load,
            batch_size=settings.batch_size,
            tokens=settings.batch_tokens or None,
            hashes=hashes,
            processes=processes,
            image_workers=settings.image_workers,
            remedy="--batch-tokens 1024, --dtype float16 or --device cpu",
        )
        self._store = None if cache is None else self._open_store(cache, hashes, name)

    def encode(
        self,
        inputs: Sequence[Input],
        batch_size: int | None = None,
        reporter: Reporter = SILENT,
        label: str = "encode",
    ) -> Vectors:
        """Return the L2-normalised embeddings of `inputs`, in order (N, D).

        Args:
            batch_size: most inputs at once, if it is to be another number than that of the
                settings.
        """
        self._asked += len(inputs)
        filling = self._filling
        filling.batch_size = batch_size or self._settings.batch_size
        if self._store is not None:
            found = filling.fill(self._store, inputs, reporter, label)
            assert found is not None
            self._shares = self._processes.gather(filling.encoded)
            return found
        embedder = self._load()
        images = [entry.image for entry in inputs if entry.image is not None]
        with embedder.images_ahead(self._settings.image_workers, images, self._processes.count):
            tensor = embedder.encode(
                inputs, filling.batch_size, reporter, label, self._processes, filling.tokens
            )
        self._shares[0] += len(inputs)
        return InMemory(tensor)

    @property
    def record(self) -> dict[str, Any]:
        """How the vectors were made, as it is written beside scores.

        `encoded` of the `inputs` were computed now, in batches of `batch_tokens`, by the
        processes in these `shares`; all others lay in the store.
        """
        return {
            "device": name_device(self.device),
            "dtype": _name(self.dtype),
            "store_dtype": _name(self._stored_as) if self._store is not None else None,
            "attention": self._settings.attention,
            "batch_size": self._filling.batch_size,
            "batch_tokens": self._tokens,
            "processes": self._processes.count,
            "inputs": self._asked,
            "encoded": sum(self._shares),
            "shares": self._shares,
        }

    @property
    def _stored_as(self) -> torch.dtype:
        if self._settings.store_dtype != "auto":
            return DTYPES[self._settings.store_dtype]
        # A component of a unit vector has no use for the range of bfloat16.
        return torch.float32 if self.dtype is torch.float32 else torch.float16

    def _load(self) -> Embedder:
        if self.model is None:
            asked = self._settings
            self._embedder = load(self.folder, asked.device, asked.dtype, attention=asked.attention)
            self.model = self._embedder.model
            self._tokens = asked.batch_tokens or self._embedder.batch_tokens()
            self._filling.tokens = self._tokens
        return self._embedder

    def _open_store(self, cache: Path, hashes: FileHashes, name: str) -> VectorStore:
        computed = {
            "dtype": _name(self.dtype),
            "store_dtype": _name(self._stored_as),
            "attention": self._settings.attention,
        }
        content = model_content(self.folder, hashes, kind="unit", **computed)
        about = {"model": name or str(self.folder), "content": content, "kind": "unit", **computed}
        return VectorStore(cache / VECTORS / content[:_NAME], about, self._stored_as)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
