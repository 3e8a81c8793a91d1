"""The teacher's embeddings of everything that a training shows it, computed once, on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from puma_cli.data.batches import BatchOrder
from puma_cli.data.examples import Examples
from puma_cli.distillation.frozen_vision import FrozenVision
from puma_cli.encoding.cache_folder import HASHES, cache_folder
from puma_cli.encoding.file_hashes import FileHashes
from puma_cli.encoding.fill import Filling, first_of_each
from puma_cli.encoding.identity import KEY_BYTES, input_keys, model_content
from puma_cli.encoding.store import StoredVectors, VectorStore
from puma_cli.encoding.writing import ROWS
from puma_cli.errors import DataError
from puma_cli.interruption import StopRequest
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.modes import evaluation_mode
from puma_cli.models.processing import Batch
from puma_cli.processes import ALONE, Processes
from puma_cli.progress import Reporter

BATCH = 128
# Inputs that are read again to see that what was kept still holds, and how far a vector may be off:
# half precision and another batch's padding stay well below.
VERIFIED, TOLERANCE = 8, 0.02
# Of a teacher in bfloat16, padding alone moves the states by more.
COARSE_TOLERANCE = 0.06


class TeacherCache:
    """Un-normalised teacher embeddings by input, in a store of vectors.

    Batches are a function of the seed and the step alone, so the inputs of a whole training are
    known before it begins. A row is found by the content of its text, image and instruction; so
    trainings with the same teacher share what they have in common, whatever their seeds and steps.

    Args:
        folder: where the files lie, in a folder of the teacher's own.
        inputs: the distinct inputs of the training, in a fixed order.
        teacher: what identifies the teacher, from `identify_teacher`.
        inner: depths of it whose read-outs follow an embedding in its row.
        dtype: number format of the files; half precision takes half the space.
        verify: compare some of what was there before with what the teacher says now.
        batch: inputs that the teacher reads at once (>= 1).
    """

    def __init__(
        self,
        folder: Path,
        inputs: Sequence[Input],
        teacher: str,
        inner: Sequence[int] = (),
        dtype: torch.dtype = torch.float32,
        verify: bool = True,
        batch: int = BATCH,
    ) -> None:
        if inner:
            teacher = f"{teacher} {' '.join(map(str, inner))}"
        if dtype is not torch.float32:
            teacher = f"{teacher} {dtype}"
        self._verify, self._batch = verify, batch
        self._inner = tuple(inner)
        name = hashlib.sha256(teacher.encode()).hexdigest()[: 2 * KEY_BYTES]
        about: dict[str, Any] = {
            "content": teacher,
            "kind": "teacher",
            "store_dtype": str(dtype).removeprefix("torch."),
        }
        self._store = VectorStore(folder / name, about, dtype)
        self._inputs = list(inputs)
        self._rows = {entry: row for row, entry in enumerate(self._inputs)}
        self._hashes = FileHashes(cache_folder() / HASHES)
        self._keys = input_keys(self._inputs, self._hashes)
        self._distinct = np.flatnonzero(first_of_each(self._keys))
        self._vectors: StoredVectors | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def fill(
        self,
        load: Callable[[], Embedder],
        reporter: Reporter,
        stop: StopRequest,
        processes: Processes = ALONE,
    ) -> bool:
        """Compute what no file holds yet; return whether everything is there.

        Args:
            load: opens the teacher; it is not called if nothing is missing.
            stop: asked for before each batch.
            processes: those that share the files; each gets all.

        Raises:
            DataError: an input cannot be read.
            DeviceError: the device runs out of memory.
            OutputError: the disk is full or refuses.
        """
        missing = set(self.missing(processes))
        teacher = _Once(load)
        there = self._store.has(self._keys)
        if self._verify and there.any():
            processes.first(lambda: self._compare(np.flatnonzero(there), teacher()))
        seen: list[FrozenVision] = []

        def begin(embedder: Embedder, inputs: Sequence[Input]) -> bool:
            seen.append(FrozenVision(embedder))
            images = (e.image for e in inputs if e in missing and e.view is None)
            shown = dict.fromkeys(image for image in images if image is not None)
            return seen[0].fill(shown, reporter, stop)

        def read(embedder: Embedder, batch: Batch) -> Tensor:
            return embedder.embed(batch, seen[0].features(batch), self._inner).float()

        self._vectors = Filling(
            teacher,
            read,
            begin,
            batch_size=self._batch,
            hashes=self._hashes,
            processes=processes,
            stop=stop,
            rows=ROWS,
        ).fill(self._store, self._inputs, reporter, "teacher")
        return self._vectors is not None

    def missing(self, processes: Processes = ALONE) -> list[Input]:
        """Return the inputs that no file holds yet, after a look at the files that are there."""
        # Files of other trainings may appear at any time: all processes go by what one has seen.
        self._store.open(processes.first(self._store.paths))
        there = self._store.has(self._keys[self._distinct])
        return [self._inputs[row] for row in self._distinct[~there].tolist()]

    def _compare(self, there: np.ndarray, teacher: Embedder) -> None:
        """Refuse embeddings that the teacher would not give today."""
        random = np.random.default_rng(len(there))
        rows = random.permutation(there)[:VERIFIED].tolist()
        with evaluation_mode(teacher.model):
            drawn = [self._inputs[row] for row in rows]
            now = _compute(teacher, drawn, self._inner, self._batch)
        before = self._store.vectors(self._keys[rows]).rows(0, len(rows)).float()
        distance = (now - before).norm(dim=1) / now.norm(dim=1).clamp(min=1e-12)
        bound = TOLERANCE if teacher.dtype is torch.float32 else COARSE_TOLERANCE
        if not bool((distance <= bound).all()):
            raise DataError(
                f"The teacher's embeddings in {self._store.folder} are not what it gives now.",
                cause=f"Of {len(rows)} that were read again, one differs by "
                f"{float(distance.max()):.1%} of its length; {bound:.1%} would be rounding.",
                hint="Delete the folder, or name another train.cache_dir.",
            )

    def sample(self, count: int, seed: int) -> Tensor:
        """Return at most so many of the training's embeddings, drawn by a seed, float32 (M, D)."""
        assert self._vectors is not None
        drawn = np.random.default_rng(seed).permutation(self._distinct)[:count]
        return self._vectors.take(drawn.tolist()).float()

    def vectors(self, inputs: Sequence[Input]) -> Tensor:
        """Return the teacher's embeddings of some inputs, float32 (B, D) on the CPU."""
        assert self._vectors is not None
        return self._vectors.take([self._rows[entry] for entry in inputs]).float()


class _Once:
    """Opens the teacher when it is first asked for."""

    def __init__(self, load: Callable[[], Embedder]) -> None:
        self._load = load
        self._found: Embedder | None = None

    def __call__(self) -> Embedder:
        self._found = self._found or self._load()
        return self._found


@torch.no_grad()
def _compute(teacher: Embedder, rows: Sequence[Input], inner: Sequence[int], batch: int) -> Tensor:
    out = torch.empty(len(rows), teacher.dimension + len(inner) * teacher.width)
    for places, some in teacher.batches(rows, batch):
        out[places] = teacher.embed(some, inner=inner).float().cpu()
    return out


def identify_teacher(folder: Path, dtype: str = "float32", max_pixels: int | None = None) -> str:
    """Return what the embeddings of a checkpoint hang on: the content of all its files.

    Args:
        dtype: number format that it computes in.
        max_pixels: the limit on images, if it is another than the checkpoint's own.
    """
    hashes = FileHashes(cache_folder() / HASHES)
    return model_content(folder, hashes, kind="teacher", dtype=dtype, max_pixels=max_pixels)


def planned_inputs(order: BatchOrder, examples: Examples, steps: int) -> list[Input]:
    """Return the distinct inputs of a training's first `steps` batches, in order of appearance."""
    found: dict[Input, None] = {}
    for step in range(steps):
        epoch, indices = order.batch(step)
        found |= dict.fromkeys(examples.batch(indices, epoch).inputs)
    return list(found)
