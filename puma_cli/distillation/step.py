"""One step's loss and gradients: of the whole batch at once, or chunk by chunk.

Chunk by chunk is the gradient cache (arXiv 2101.06983): every chunk is embedded without a graph;
the loss of all embeddings gives the gradient of each; every chunk is embedded again, with its graph
and the same dropout, and takes its rows of that gradient further. The result is the gradient of the
undivided batch, at the memory of one chunk and of the embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from puma_cli.config.settings import BatchSettings
from puma_cli.data.examples import ContrastiveBatch
from puma_cli.distillation.chunks import plan_chunks
from puma_cli.distillation.kept_chunks import VISION_BYTES, Kept
from puma_cli.distillation.objective import Embeddings, Labels, Objective
from puma_cli.distillation.pair import Pair
from puma_cli.distillation.random_state import random_state, replayed
from puma_cli.distillation.teacher_cache import TeacherCache
from puma_cli.models.read_ahead import read_ahead
from puma_cli.models.splitting import Part, in_order, split_by_length


@dataclass(frozen=True)
class Prepared:
    """A batch as far as it can be made ready before its step.

    Args:
        batch: the examples.
        parts: the tensors of all inputs, for a batch that is computed at once.
        chunks: places of each chunk's inputs, for one that is not.
        tokens: tokens of all inputs, those of images included, padding left out.
    """

    batch: ContrastiveBatch
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
    """

    loss: Tensor
    terms: dict[str, Tensor]
    student: Embeddings
    labels: Labels


class Step:
    """Computes the gradients of batches; the optimizer is the loop's.

    Args:
        cache: the teacher's embeddings, or None to ask the teacher at every step.
        settings: how batches are divided.
    """

    def __init__(
        self,
        pair: Pair,
        objective: Objective,
        accelerator: Any,
        settings: BatchSettings,
        cache: TeacherCache | None = None,
    ) -> None:
        self._pair, self._objective, self._accelerator = pair, objective, accelerator
        self._settings, self._cache = settings, cache
        self._asks_teacher = objective.needs_teacher and cache is None

    def prepare(self, batch: ContrastiveBatch) -> Prepared:
        """Return the batch with its tensors on the CPU, or with its chunks if it needs several.

        Raises:
            DataError: an image is missing or cannot be decoded.
        """
        embedder, settings = self._pair.embedder, self._settings
        if settings.chunk_tokens is not None or settings.chunk_pixels is not None:
            sizes = embedder.processor.sizes(batch.inputs)
            chunks = plan_chunks(sizes, settings.chunk_tokens, settings.chunk_pixels)
            if len(chunks) > 1:
                return Prepared(batch, chunks=chunks, tokens=sum(s.tokens for s in sizes))
        whole = embedder.collate(batch.inputs)
        # Texts of one batch differ in length: apart, they are computed without the padding.
        return Prepared(batch, split_by_length(whole), tokens=int(whole.attention_mask.sum()))

    def backward(self, prepared: Prepared, progress: float) -> Outcome:
        """Add the gradients of the batch's loss to the trained parameters.

        Args:
            progress: share of the training that is done [0, 1].
        """
        batch = prepared.batch
        device = self._pair.embedder.device
        labels = Labels(
            batch.target, batch.excluded, batch.query_modality, batch.candidate_modality
        ).to(device)
        if prepared.chunks:
            return self._by_chunks(prepared, labels, progress)
        student, teacher = self._embed(prepared.parts)
        return self._lose(student, teacher, batch, labels, progress)

    def _by_chunks(self, prepared: Prepared, labels: Labels, progress: float) -> Outcome:
        batch, device = prepared.batch, self._pair.embedder.device
        kept = Kept(VISION_BYTES if self._pair.vision_is_frozen else 0, device)
        with torch.no_grad():
            embedded, teacher = self._embed(self._read(batch, prepared.chunks), kept)
        student = embedded.requires_grad_()
        outcome = self._lose(student, teacher, batch, labels, progress)
        assert student.grad is not None
        for part, state, vision in kept.again(lambda chunks: self._read(batch, chunks)):
            with replayed(state, device), self._accelerator.autocast():
                again, _, _ = self._embed_part(part, vision, with_teacher=False)
            again.backward(student.grad[part.rows.to(device)].to(again.dtype))
        return outcome

    def _lose(
        self,
        student: Tensor,
        teacher: Tensor | None,
        batch: ContrastiveBatch,
        labels: Labels,
        progress: float,
    ) -> Outcome:
        """Compute the loss of all embeddings (B + C, D) and its gradients up to the student's."""
        loss, terms = self._objective(
            _sides(student, batch), self._taught(teacher, batch), labels, progress
        )
        self._accelerator.backward(loss)
        bare = {name: value.detach() for name, value in terms.items()}
        return Outcome(loss.detach(), bare, _sides(student.detach(), batch), labels)

    def _read(self, batch: ContrastiveBatch, chunks: Sequence[Sequence[int]]) -> Iterator[Part]:
        """Yield the chunks' tensors, the next one read while the present one is computed."""
        inputs, collate = batch.inputs, self._pair.embedder.collate

        def read(places: Sequence[int]) -> Part:
            return Part(torch.tensor(places), collate([inputs[place] for place in places]))

        return read_ahead(chunks, read)

    def _embed(
        self, parts: Iterable[Part], kept: Kept | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the student's and the teacher's embeddings of all inputs (B + C, D)."""
        device = self._pair.embedder.device
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
        return in_order(rows, ours), in_order(rows, theirs) if theirs else None

    def _embed_part(
        self, part: Part, vision: Any, with_teacher: bool
    ) -> tuple[Tensor, Tensor | None, Any]:
        batch = part.batch.to(self._pair.embedder.device)
        if vision is None:
            vision = self._pair.see(batch)
        return *self._pair.embed(batch, vision, with_teacher), vision

    def _taught(self, teacher: Tensor | None, batch: ContrastiveBatch) -> Embeddings | None:
        if self._cache is not None:
            teacher = self._cache.vectors(batch.inputs).to(self._pair.embedder.device)
        return None if teacher is None else _sides(teacher, batch)


def _sides(embeddings: Tensor, batch: ContrastiveBatch) -> Embeddings:
    count = len(batch.queries)
    return Embeddings(embeddings[:count], embeddings[count:])
