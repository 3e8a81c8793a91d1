"""One step's loss and gradients, on one process or many, at once or chunk by chunk.

In every case the loss is that of the whole batch. Each process embeds its share of the inputs; all
embeddings come together, every process computes the loss of all and takes from its gradient the
rows of its own share further. No gradient crosses between processes but that of the parameters.

Chunk by chunk is the gradient cache (arXiv 2101.06983): every chunk is embedded without a graph;
the loss of all embeddings gives the gradient of each; every chunk is embedded again, with its graph
and the same dropout, and takes its rows of that gradient further. The result is the gradient of the
undivided batch, at the memory of one chunk and of the embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from puma_cli.config.training_settings import BatchSettings
from puma_cli.data.examples import ContrastiveBatch
from puma_cli.distillation.kept_chunks import VISION_BYTES, Kept
from puma_cli.distillation.objective import Embeddings, Objective
from puma_cli.distillation.pair import Pair
from puma_cli.distillation.random_state import random_state, replayed
from puma_cli.distillation.shares import deal
from puma_cli.distillation.stored_teacher import StoredTeacher
from puma_cli.distillation.teacher_cache import TeacherCache
from puma_cli.errors import DataError
from puma_cli.losses import Labels
from puma_cli.models.batch_plan import FEWEST, plan_batches
from puma_cli.models.inputs import Input
from puma_cli.models.read_ahead import read_ahead
from puma_cli.models.splitting import Part, in_order, pass_tokens, split_by_length
from puma_cli.processes import ALONE, Processes

# What a process embeds, for nothing, while others embed more than it has.
IDLE = Input(text="-")


@dataclass(frozen=True)
class Prepared:
    """A batch as far as it can be made ready before its step.

    Args:
        batch: the examples.
        shares: places of the inputs that each process embeds.
        inputs: those of this process (N).
        parts: the tensors of its inputs, for a batch that is computed at once.
        chunks: places among its inputs of each chunk's, for one that is not.
        tokens: tokens of its inputs, those of images included, padding left out.
    """

    batch: ContrastiveBatch
    shares: list[list[int]]
    inputs: list[Input]
    parts: Sequence[Part] = ()
    chunks: Sequence[Sequence[int]] = ()
    tokens: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a step computed beside the gradients.

    Args:
        loss: the weighted sum, a scalar without graph.
        terms: its unweighted terms.
        student: the student's embeddings, without graph.
        labels: what the losses knew.
        left_out: inputs that the loss knows nothing of, as an image could not be read.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    student: Embeddings
    labels: Labels
    left_out: int = 0


class Step:
    """Computes the gradients of batches; the optimizer is the loop's.

    Args:
        settings: how batches are divided.
        cache: the teacher's embeddings, or None to ask the teacher at every step.
        processes: those that share each batch.
        sharded: whether the weights lie in parts on the processes, which then must make equally
            many passes through the network.
    """

    def __init__(
        self,
        pair: Pair,
        objective: Objective,
        accelerator: Any,
        settings: BatchSettings,
        cache: TeacherCache | StoredTeacher | None = None,
        processes: Processes = ALONE,
        sharded: bool = False,
    ) -> None:
        self._pair, self._objective, self._accelerator = pair, objective, accelerator
        self._settings, self._cache = settings, cache
        self._processes, self._sharded = processes, sharded
        self._asks_teacher = objective.needs_teacher and cache is None
        self._frozen = objective.settings.frozen_candidates

    def prepare(self, batch: ContrastiveBatch) -> Prepared:
        """Return the batch with its tensors on the CPU, or with its chunks if it needs several.

        Raises:
            DataError: an image is missing or cannot be decoded.
        """
        embedder, settings = self._pair.embedder, self._settings
        read = batch.queries if self._frozen else batch.inputs
        shares = deal(read, self._processes.count)
        inputs = [read[place] for place in shares[self._processes.place]]
        if not inputs:
            return Prepared(batch, shares, inputs)
        if settings.chunk_tokens is not None or settings.chunk_pixels is not None:
            sizes = embedder.processor.sizes(inputs)
            chunks = plan_batches(
                sizes, tokens=settings.chunk_tokens, pixels=settings.chunk_pixels, per_pass=FEWEST
            )
            if len(chunks) > 1:
                tokens = sum(size.tokens for size in sizes)
                return Prepared(batch, shares, inputs, chunks=chunks, tokens=tokens)
        whole = embedder.collate(inputs)
        # Texts of one batch differ in length: apart, they are computed without the padding.
        parts = split_by_length(whole, pass_tokens(embedder.decoder.layers[0]))
        tokens = int(whole.attention_mask.sum())
        return Prepared(batch, shares, inputs, parts, tokens=tokens)

    def backward(self, prepared: Prepared, progress: float, weight: float = 1.0) -> Outcome:
        """Add this process's part of the gradients of the batch's loss to the trained parameters.

        The mean of these parts over all processes is the gradient of the loss: see
        `average_gradients`.

        Args:
            progress: share of the training that is done [0, 1].
            weight: factor on the loss.
        """
        passes = len(prepared.chunks or prepared.parts)
        chunked, most = int(bool(prepared.chunks)), passes
        if self._sharded:
            chunked, most = self._processes.most(chunked, passes)
        parts = self._read(prepared, prepared.chunks) if prepared.chunks else iter(prepared.parts)
        parts = chain(parts, self._idle(len(prepared.inputs), most - passes))
        backward = self._by_chunks if chunked else self._at_once
        return backward(parts, prepared, progress, weight)

    def _at_once(
        self, parts: Iterable[Part], prepared: Prepared, progress: float, weight: float
    ) -> Outcome:
        ours, theirs = self._embed(parts)
        outcome, gradient = self._lose(ours.detach(), theirs, prepared, progress, weight)
        if ours.requires_grad:
            ours.backward(gradient.to(ours.dtype))
        return outcome

    def _by_chunks(
        self, parts: Iterable[Part], prepared: Prepared, progress: float, weight: float
    ) -> Outcome:
        device = self._pair.embedder.device
        limit = VISION_BYTES if self._pair.vision_is_frozen else 0
        kept = Kept(limit, device, self._pair.embedder)
        with torch.no_grad():
            ours, theirs = self._embed(parts, kept)
        outcome, gradient = self._lose(ours, theirs, prepared, progress, weight)
        for part, state, vision in kept.again(lambda chunks: self._read(prepared, chunks)):
            with replayed(state, device), self._accelerator.autocast():
                again, _, _ = self._embed_part(part, vision, with_teacher=False)
            again.backward(gradient[part.rows.to(device)].to(again.dtype))
        return outcome

    def _lose(
        self,
        ours: Tensor,
        theirs: Tensor | None,
        prepared: Prepared,
        progress: float,
        weight: float,
    ) -> tuple[Outcome, Tensor]:
        """Compute the batch's loss, and its gradient at the embeddings of this process (N', D).

        Args:
            ours: the student's embeddings of this process's inputs (N, D), and of idle ones.
            theirs: the teacher's, or None.
        """
        batch, device = prepared.batch, self._pair.embedder.device
        student = self._together(ours, prepared).requires_grad_()
        if self._cache is not None:
            theirs = self._cache.vectors(batch.inputs).to(device)
        elif theirs is not None:
            theirs = self._together(theirs, prepared)
        labels, count, inner = batch.labels, len(batch.queries), self._pair.inner
        known: Tensor = student
        with torch.enable_grad():
            if (seen := self._readable(prepared)) is not None:
                labels = labels.kept(seen[:count], seen[count:])
                count, seen = len(labels.target), seen.to(device)
                known, theirs = student[seen], None if theirs is None else theirs[seen]
            elif self._frozen and theirs is not None:
                known = torch.cat([student, theirs[count:].to(student.dtype)])
            labels = labels.to(device)
            taught = None if theirs is None else Embeddings.of(theirs, count, inner)
            sides = Embeddings.of(known, count, inner)
            loss, terms = self._objective(sides, taught, labels, progress, self._bank(batch))
        (weight * loss).backward()
        assert student.grad is not None
        gradient = self._own(student.grad, prepared, len(ours))
        bare = {name: value.detach() for name, value in terms.items()}
        shown = Embeddings.of(known.detach(), count, inner)
        left_out = len(batch.inputs) - len(known)
        return Outcome(loss.detach(), bare, shown, labels, left_out), gradient

    def _own(self, gradient: Tensor, prepared: Prepared, rows: int) -> Tensor:
        """Return this process's rows of a gradient at all embeddings, and zeros up to `rows`."""
        count = self._processes.count
        if count == 1:
            return gradient
        place = torch.tensor(prepared.shares[self._processes.place], device=gradient.device)
        own = gradient.new_zeros(rows, gradient.shape[1])
        # Their mean over all processes will be taken, and the others have nothing to add.
        own[: len(place)] = count * gradient[place]
        return own

    def _readable(self, prepared: Prepared) -> Tensor | None:
        """Tell which of the batch's inputs the loss may know (B + C), or None if it is all.

        Left out is what shows an image that its process could not read, and a query without its
        positive.

        Raises:
            DataError: nothing is left.
        """
        batch, images = prepared.batch, self._pair.embedder.processor.images
        if not images.stands_in:
            return None
        lost = torch.zeros(len(batch.inputs), dtype=torch.int32)
        for place in prepared.shares[self._processes.place]:
            lost[place] = batch.inputs[place].image in images.unreadable
        self._processes.total(lost)
        readable, count = lost == 0, len(batch.queries)
        readable[:count] &= readable[count:][batch.labels.target]
        if not bool(readable[:count].any()):
            raise DataError(
                "No query of a batch can be read with its positive.",
                cause="Their images are missing or broken.",
                hint="Check the data set's image folder.",
            )
        return readable

    def _bank(self, batch: ContrastiveBatch) -> Tensor | None:
        """Draw embeddings of the teacher from its cache, others for every batch."""
        settings = self._objective.settings
        if not settings.bank or self._cache is None:
            return None
        drawn = self._cache.sample(settings.bank_size, crc32("/".join(batch.names).encode()))
        return drawn[:, : drawn.shape[1] - self._pair.inner].to(self._pair.embedder.device)

    def _together(self, rows: Tensor, prepared: Prepared) -> Tensor:
        """Return the embeddings of all processes in the order of the batch (B + C, D)."""
        counts = [len(share) for share in prepared.shares]
        own = rows[: len(prepared.inputs)].to(torch.promote_types(rows.dtype, torch.float32))
        if self._processes.count == 1:
            return own.detach()
        found = torch.cat(self._processes.gather_rows(own, counts))
        places = [place for share in prepared.shares for place in share]
        return found[torch.argsort(torch.tensor(places, device=found.device))]

    def _read(self, prepared: Prepared, chunks: Sequence[Sequence[int]]) -> Iterator[Part]:
        """Yield the chunks' tensors, the next one read while the present one is computed."""
        inputs, collate = prepared.inputs, self._pair.embedder.collate

        def read(places: Sequence[int]) -> Part:
            return Part(torch.tensor(places), collate([inputs[place] for place in places]))

        return read_ahead(chunks, read)

    def _idle(self, begin: int, count: int) -> list[Part]:
        """Return parts that keep step with other processes and have no share in the loss."""
        if not count:
            return []
        batch = self._pair.embedder.collate([IDLE])
        return [Part(torch.tensor([begin + number]), batch) for number in range(count)]

    def _embed(
        self, parts: Iterable[Part], kept: Kept | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the student's and the teacher's embeddings of this process's inputs (N, D)."""
        pair = self._pair
        device = pair.embedder.device
        rows, ours, theirs = [], [], []
        for part in parts:
            state = random_state(device) if kept is not None else None
            with self._accelerator.autocast():
                learned, taught, vision = self._embed_part(part, None, self._asks_teacher)
            if kept is not None and state is not None:
                kept.add(part, state, vision)
            rows.append(part.rows.to(device))
            ours.append(learned)
            if taught is not None:
                theirs.append(taught)
        if not rows:
            taught = (
                pair.teacher.no_rows(pair.inner) if pair.teacher and self._asks_teacher else None
            )
            return pair.embedder.no_rows(pair.inner), taught
        return in_order(rows, ours), in_order(rows, theirs) if theirs else None

    def _embed_part(
        self, part: Part, vision: Any, with_teacher: bool
    ) -> tuple[Tensor, Tensor | None, Any]:
        batch = part.batch.to(self._pair.embedder.device)
        if vision is None:
            vision = self._pair.see(batch)
        return *self._pair.embed(batch, vision, with_teacher), vision
