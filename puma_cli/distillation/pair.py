"""Student and teacher, with every weight in memory once where one copy serves both."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from puma_cli.config.lora_settings import LoraSettings
from puma_cli.config.training_settings import TrainSettings
from puma_cli.distillation.adapters import (
    Adapter,
    adapter_alone,
    add_adapters,
    merge_into,
    merged_state,
)
from puma_cli.distillation.embed_token import EmbedTokenRow
from puma_cli.distillation.frozen_vision import FrozenVision
from puma_cli.distillation.sharding import shard
from puma_cli.distillation.shared_weights import same_weights, share_frozen
from puma_cli.errors import ConfigError
from puma_cli.interruption import StopRequest
from puma_cli.models.embedder import Embedder
from puma_cli.models.processing import Batch
from puma_cli.processes import Processes
from puma_cli.progress import Reporter

# Share of a training after which a fading head has gone; the rest is trained as it will be used.
HEAD_GONE = 0.5


class Pair:
    """The model being trained and the one it learns from.

    With adapters and a student whose layers are the teacher's own, the teacher's weights serve both
    (`shared`): the student is the teacher cut to `kept`, adapters on; the teacher is the full
    depth, adapters off. Otherwise the student has its own copy of what it trains, and the vision
    tower and embedding table are shared wherever they are frozen and equal. A student's head is
    its own in every case, and always trains with it; a trained row of the embed token is its own.

    Args:
        student: the student as a model of its own.
        teacher: the teacher, or None.
        kept: the teacher's layers that the student was cut from, or None if it was not.
        lora: adapters; rank 0 trains the weights themselves.
        train: what is frozen.
        hints: inner depths of the student and those of the teacher that they are compared with.
        original: opens the student in full precision on the CPU, where `student` is held in less:
            adapters are then merged into what it opens.
    """

    def __init__(
        self,
        student: Embedder,
        teacher: Embedder | None,
        kept: Sequence[int] | None,
        lora: LoraSettings,
        train: TrainSettings,
        hints: tuple[Sequence[int], Sequence[int]] = ((), ()),
        original: Callable[[], Embedder] | None = None,
    ) -> None:
        self.teacher = teacher
        self._original = original
        self._hints = hints
        self.cut = None if kept is None else list(kept)
        self.config = copy.deepcopy(student.model.config)
        self.shared = (
            teacher is not None
            and kept is not None
            and lora.rank > 0
            and same_weights(student, teacher, kept)
        )
        self.embedder = student
        if self.shared and teacher is not None:
            # The teacher's network, but the student's prompt and head.
            self.embedder = Embedder(
                teacher.model,
                student.tokenizer,
                student.image_processor,
                student.settings,
                head=student.head,
            )
            images = self.embedder.processor.images
            images.stands_in = student.processor.images.stands_in
        self.kept = list(kept) if self.shared and kept else list(range(self.embedder.depth))
        self._same_vision = self.shared
        self.sharded = False
        _freeze(self.embedder, lora, train)
        frozen = train.freeze_vision or lora.rank > 0
        self._remembered = FrozenVision(self.embedder) if frozen else None
        self._adapters: Any = None
        if lora.rank > 0:
            with self.embedder.layers(self.kept):
                self._adapters = add_adapters(self.embedder, lora)
        self._row: EmbedTokenRow | None = None
        if train.train_embed_token:
            if not student.settings.embed_token:
                raise ConfigError(
                    "train.train_embed_token=true asks for the token that embeddings are read at.",
                    cause="The student's prompts end on no token of their own.",
                    hint="Leave it away.",
                )
            token = student.tokenizer.convert_tokens_to_ids(student.settings.embed_token)
            self._row = EmbedTokenRow(self.embedder.decoder.embed_tokens, token)
        if teacher is not None and teacher.head is not None:
            teacher.head.requires_grad_(False)
        if teacher is not None and not self.shared:
            teacher.model.requires_grad_(False)
            if train.freeze_vision or lora.rank > 0:
                self._same_vision = share_frozen(student, teacher)

        beside = {"head": self.embedder.head, "embed_token": self._row}
        parts = {name: part for name, part in beside.items() if part is not None}
        self._module: nn.Module = self.embedder.model
        if parts:
            self._module = nn.ModuleDict({"network": self.embedder.model, **parts})

    @property
    def model(self) -> nn.Module:
        """The module whose parameters with gradient are trained."""
        return self._module

    @property
    def head_share(self) -> float:
        """How much of the student's head there is (see `fade_head`); 0 without one."""
        return 0.0 if self.embedder.head is None else self.embedder.head.share

    def fade_head(self, progress: float) -> None:
        """Lead the student's head to the identity in the first half of a training.

        Args:
            progress: share of the training that is done [0, 1].
        """
        if self.embedder.head is not None:
            self.embedder.head.share = max(0.0, 1 - progress / HEAD_GONE)

    @contextmanager
    def student(self) -> Iterator[Embedder]:
        """Give the student as an embedder while the context is open."""
        with ExitStack() as stack:
            if self.shared:
                stack.enter_context(self.embedder.layers(self.kept))
            if self._row is not None:
                stack.enter_context(self._row.on())
            yield self.embedder

    @contextmanager
    def teaching(self) -> Iterator[Embedder]:
        """Give the teacher as an embedder while the context is open."""
        assert self.teacher is not None
        with self._adapters.disable_adapter() if self.shared else nullcontext():
            yield self.teacher

    def remember(self, images: Iterable[Path], reporter: Reporter, stop: StopRequest) -> bool:
        """See images that training will come back to, if the vision tower stays as it is.

        Returns:
            False if a signal asked to stop.
        """
        return self._remembered is None or self._remembered.fill(images, reporter, stop)

    @property
    def inner(self) -> int:
        """How many numbers of inner depths follow an embedding."""
        return len(self._hints[0]) * self.embedder.width

    @property
    def vision_is_frozen(self) -> bool:
        """Whether images keep their features through the training."""
        return self._remembered is not None

    def see(self, batch: Batch) -> Any:
        """Return the features of the batch's images, or None without images."""
        see = self._remembered.features if self._remembered else self.embedder.vision_features
        return see(batch)

    def embed(self, batch: Batch, vision: Any, with_teacher: bool) -> tuple[Tensor, Tensor | None]:
        """Return the student's embeddings (B, D), and the teacher's without gradient.

        With hints, the read-outs of the inner depths follow in the same rows.

        Args:
            vision: what `see` returns for the batch.
        """
        with self.student() as student:
            learned = student.embed(batch, vision, self._hints[0])
        return learned, self._teach(batch, vision) if with_teacher else None

    @torch.no_grad()
    def _teach(self, batch: Batch, vision: Any) -> Tensor:
        with self.teaching() as teacher:
            # Dropout belongs to the student alone.
            teacher.model.eval()
            try:
                seen = vision if self._same_vision else None
                return teacher.embed(batch, seen, self._hints[1])
            finally:
                if self.shared:
                    teacher.model.train()

    def trained(self) -> list[nn.Parameter]:
        """Return the parameters that are trained."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def shard(self, processes: Processes, device: torch.device) -> None:
        """Leave of the decoder's weights a part on each process."""
        shard(self.embedder, processes, device)
        self.sharded = True

    def export(self) -> Embedder:
        """Return a separate embedder with the student's merged weights, on the CPU."""
        embedder = self.gather(wanted=True)
        assert embedder is not None
        return embedder

    def gather(self, wanted: bool) -> Embedder | None:
        """Return what `export` does where it is wanted; of a sharded network, all must ask."""
        if not wanted and not self.sharded:
            return None
        if self._original is not None:
            return self._merged(self._original())
        state = {}
        with self.student() as student:
            for name, value in merged_state(student.model):
                if wanted:
                    state[name] = value.cpu()
        return self._separate(state) if wanted else None

    def adapter(self, base: str, wanted: bool) -> Adapter | None:
        """Return the adapters by themselves where they are wanted; all processes must ask.

        Args:
            base: the name of the checkpoint that they belong on.
        """
        with self.student():
            return adapter_alone(self._adapters, base, self._row, wanted)

    def _merged(self, original: Embedder) -> Embedder:
        with self.student() as student:
            merge_into(original, student)
        if self._row is not None:
            table = original.decoder.embed_tokens.weight
            table.data = self._row.merged(table.data)
        return self._beside(original.model)

    def _separate(self, state: dict[str, Tensor]) -> Embedder:
        from accelerate import init_empty_weights

        if self._row is not None:
            table = f"{self.embedder.family.prefix}embed_tokens.weight"
            state[table] = self._row.merged(state[table])
        # Weights come from the state; buffers that are not in it are computed as ever.
        with init_empty_weights(include_buffers=False):
            model = type(self.embedder.model)(self.config)
        model.load_state_dict(state, strict=True, assign=True)
        return self._beside(model)

    def _beside(self, model: Any) -> Embedder:
        """Return a network with all that makes an embedder of it, as the student has it now."""
        source, head = self.embedder, None
        # A head that has faded is the identity, and the student is stock without it.
        if source.head is not None and self.head_share > 0:
            head = copy.deepcopy(source.head).cpu()
        return Embedder(model, source.tokenizer, source.image_processor, source.settings, head=head)


def _freeze(embedder: Embedder, lora: LoraSettings, train: TrainSettings) -> None:
    model = embedder.model
    model.requires_grad_(lora.rank == 0)
    if embedder.head is not None:
        embedder.head.requires_grad_(not train.fade_head)
    if train.freeze_vision and embedder.tower is not None:
        embedder.tower.requires_grad_(False)
    if not train.train_embeddings:
        embedder.decoder.embed_tokens.requires_grad_(False)
