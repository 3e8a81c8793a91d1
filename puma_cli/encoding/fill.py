"""Embedding what a store does not hold yet."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from puma_cli.encoding.file_hashes import FileHashes
from puma_cli.encoding.finite import check_finite
from puma_cli.encoding.identity import KEY_BYTES, Keys, input_keys
from puma_cli.encoding.out_of_memory import out_of_memory_explained
from puma_cli.encoding.store import Index, StoredVectors, VectorStore
from puma_cli.encoding.writing import ROWS, SECONDS, Writer
from puma_cli.errors import PumaError
from puma_cli.interruption import StopRequest
from puma_cli.models.batch_plan import WINDOW, windows
from puma_cli.models.embedder import Embedder
from puma_cli.models.image_workers import AUTO, ImageWorkers, asked_ahead
from puma_cli.models.inputs import Input
from puma_cli.models.modes import evaluation_mode
from puma_cli.models.processing import Batch
from puma_cli.models.read_ahead import read_ahead
from puma_cli.processes import ALONE, Processes
from puma_cli.progress import SILENT, Reporter, by_rows

# Windows that each of several processes gets at least, so that all end at about the same time.
_SHARES = 4


def unit_vectors(embedder: Embedder, batch: Batch) -> Tensor:
    """Return L2-normalised embeddings in fp32 (B, D).

    Raises:
        NumericError: one is not finite.
    """
    vectors = normalize(embedder.embed(batch).float(), dim=-1)
    check_finite("model's", vectors)
    return vectors


def _nothing(embedder: Embedder, inputs: Sequence[Input]) -> bool:
    return True


class _Part(NamedTuple):
    """Inputs in a row of a plan, as their places, and their tensors if they are to be embedded."""

    places: Sequence[int]
    missing: bool
    batch: Batch | None = None


@dataclass
class Filling:
    """How stores are filled.

    Args:
        load: opens the model; called once, and only if something is missing.
        read: makes the rows (B, D) of a batch.
        begin: called with the model and the inputs that this process looks at, before the first
            batch; it returns False after a stop.
        batch_size: most inputs at once (>= 1).
        tokens: most tokens at once, or None for what suits the device.
        hashes: of the images.
        processes: those that share the work; each gets all.
        stop: asked for between two batches; what is computed until then is kept.
        image_workers: processes that decode images ahead, 0 for none, or `AUTO`.
        rows: rows of a file.
        seconds: how long computed rows wait for others of their file.
        remedy: what the user can do besides smaller batches if the device runs out of memory.
    """

    load: Callable[[], Embedder]
    read: Callable[[Embedder, Batch], Tensor] = unit_vectors
    begin: Callable[[Embedder, Sequence[Input]], bool] = _nothing
    batch_size: int = 128
    tokens: int | None = None
    hashes: FileHashes = field(default_factory=FileHashes)
    processes: Processes = ALONE
    stop: StopRequest | None = None
    image_workers: int = AUTO
    rows: int = ROWS
    seconds: float = SECONDS
    remedy: str = "--dtype float16 or --device cpu"
    encoded: int = field(default=0, init=False)
    """Inputs that this process embedded."""
    _opened: Embedder | None = field(default=None, init=False, repr=False)

    def fill(
        self,
        store: VectorStore,
        inputs: Sequence[Input],
        reporter: Reporter = SILENT,
        label: str = "encode",
    ) -> StoredVectors | None:
        """Return the vectors of all inputs, in order (N, D); None after a stop.

        Raises:
            DataError: an input cannot be read.
            DeviceError: the device runs out of memory.
            NumericError: a vector is not finite.
            OutputError: the disk is full or refuses.
        """
        self._meet(store)
        keys = np.empty(len(inputs), dtype=f"S{KEY_BYTES}")
        own = self._share(inputs)
        with out_of_memory_explained(self.batch_size, self.remedy):
            whole = self._work(store, inputs, own, keys, reporter, label)
        if self.processes.any(not whole):
            return None
        self._meet(store)
        mine = [place for window in own for place in window]
        for places, found in self.processes.gather((mine, keys[mine])):
            keys[places] = found
        store.used()
        return store.vectors(keys)

    def _meet(self, store: VectorStore) -> None:
        """Let all processes go by the same files, whoever else fills the folder meanwhile."""
        store.open(self.processes.first(store.paths))

    def _share(self, inputs: Sequence[Input]) -> list[list[int]]:
        """Return this process's part of the inputs, window by window, as their places."""
        count = self.processes.count
        size = WINDOW if count == 1 else max(1, min(WINDOW, len(inputs) // (_SHARES * count)))
        return list(self.processes.share(list(windows(inputs, size))))

    def _work(
        self,
        store: VectorStore,
        inputs: Sequence[Input],
        own: Sequence[list[int]],
        keys: Keys,
        reporter: Reporter,
        label: str,
    ) -> bool:
        """Embed what is missing of some windows and note the keys of all; False after a stop."""

        def collated(part: _Part) -> _Part:
            if not part.missing:
                return part
            batch = embedder().collate([inputs[place] for place in part.places])
            return part._replace(batch=batch)

        writer = Writer(store, self.rows, self.seconds)
        with ExitStack() as stack:

            def embedder() -> Embedder:
                if self._opened is None:
                    self._opened = self.load()
                if not entered:
                    shown = [inputs[place].image for window in own for place in window]
                    images = [image for image in shown if image is not None]
                    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
                    ahead = self._opened.images_ahead(self.image_workers, images, sharing)
                    entered.append(stack.enter_context(ahead))
                    stack.enter_context(evaluation_mode(self._opened.model))
                return self._opened

            entered: list[ImageWorkers | None] = []
            plan = stack.enter_context(closing(self._plan(store, inputs, own, keys, embedder)))
            # The plan opens the model, and with it the workers, before the first missing part.
            asked = asked_ahead(
                plan,
                inputs,
                lambda: entered[0] if entered else None,
                lambda part: part.places if part.missing else (),
            )
            source = stack.enter_context(closing(read_ahead(asked, collated)))
            total = sum(map(len, own))
            try:
                for part in by_rows(reporter, source, label, total, lambda p: len(p.places)):
                    if self.stop:
                        break
                    if part.batch is None:
                        continue
                    if not self.encoded and not self.begin(embedder(), _all(inputs, own)):
                        break
                    batch = part.batch.to(embedder().device)
                    writer.add(keys[part.places], self.read(embedder(), batch).cpu())
                    self.encoded += len(part.places)
                else:
                    writer.flush()
                    return True
            except BaseException:
                # What is computed is kept; if it cannot be, the first error says more.
                with suppress(PumaError):
                    writer.flush()
                raise
            writer.flush()
            return False

    def _plan(
        self,
        store: VectorStore,
        inputs: Sequence[Input],
        own: Sequence[list[int]],
        keys: Keys,
        embedder: Callable[[], Embedder],
    ) -> Generator[_Part, None, None]:
        """Yield all inputs of some windows, in batches where they are to be embedded."""
        seen = Index()

        def looked_at(window: list[int]) -> tuple[list[int], Keys]:
            return window, input_keys([inputs[place] for place in window], self.hashes)

        with closing(read_ahead(own, looked_at)) as ahead:
            for window, found in ahead:
                keys[window] = found
                fresh = first_of_each(found) & ~seen.has(found)
                seen.add(found[fresh], 0)
                missing = fresh & ~store.has(found)
                if not missing.all():
                    yield _Part([window[row] for row in np.flatnonzero(~missing).tolist()], False)
                if missing.any():
                    for batch in self._batches(embedder(), inputs, window, fresh, missing):
                        yield _Part(batch, True)

    def _batches(
        self,
        embedder: Embedder,
        inputs: Sequence[Input],
        window: Sequence[int],
        fresh: NDArray[np.bool_],
        missing: NDArray[np.bool_],
    ) -> list[list[int]]:
        """Divide what is missing of a window.

        What a run that was killed left to do is embedded in the same batches as in that run, and so
        to the same bits.
        """

        def planned(rows: NDArray[np.bool_]) -> list[list[int]]:
            places = [window[row] for row in np.flatnonzero(rows).tolist()]
            return embedder.plan_window(inputs, places, self.batch_size, self.tokens)

        new = {window[row] for row in np.flatnonzero(missing).tolist()}
        plan = planned(fresh)
        whole = [batch for batch in plan if new.issuperset(batch)]
        rest = new.difference(*whole)
        if not rest:
            return whole
        return whole + planned(np.array([place in rest for place in window]))


def first_of_each(keys: Keys) -> NDArray[np.bool_]:
    """Tell which keys come for the first time (N,)."""
    first = np.zeros(len(keys), dtype=bool)
    first[np.unique(keys, return_index=True)[1]] = True
    return first


def _all(inputs: Sequence[Input], own: Sequence[Sequence[int]]) -> list[Input]:
    return [inputs[place] for window in own for place in window]
