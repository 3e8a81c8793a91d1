"""A checkpoint at work: inputs in, embeddings (B, D) out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from puma_cli.errors import ConfigError
from puma_cli.models.batching import Batching
from puma_cli.models.devices import DTYPES
from puma_cli.models.embedder_settings import (
    MEAN,
    EmbedderSettings,
    write_embedder_settings,
)
from puma_cli.models.families import family_of
from puma_cli.models.head import Head, write_head
from puma_cli.models.head_file import BRIDGE
from puma_cli.models.in_python import InPython
from puma_cli.models.inputs import Input
from puma_cli.models.modes import evaluation_mode
from puma_cli.models.pooling import mean_rows, rows_at
from puma_cli.models.processing import Batch, Processor
from puma_cli.models.quiet import quiet_transformers
from puma_cli.processes import ALONE, Processes
from puma_cli.progress import SILENT, Reporter


class Embedder(InPython, Batching):
    """A decoder read at one token, the last (method of the paper, section 3) unless pooled else.

    The embedding is the post-norm hidden state `norm(h[L])` there, mapped by the head where there
    is one, L2-normalised where cosines are wanted.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        image_processor: Any,
        settings: EmbedderSettings,
        folder: Path | None = None,
        head: Head | None = None,
    ) -> None:
        self.model = model
        self.family = family_of(model)
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        # Code of the checkpoint's own may attend both ways; stock classes never do.
        self.causal = True
        self.settings = settings
        self.folder = folder
        self.head = head
        self.processor = self._new_processor()

    def _new_processor(self) -> Processor:
        return Processor(
            self.tokenizer,
            self.image_processor,
            self.settings,
            positions=self.family.rope_index(self.model),
        )

    @property
    def decoder(self) -> Any:
        """The language model: `layers`, `norm`, `embed_tokens`."""
        return self.family.decoder(self.model)

    @property
    def tower(self) -> Any:
        """The vision tower, or None of a model of text alone."""
        return self.family.tower(self.model)

    @property
    def depth(self) -> int:
        """Number of decoder layers L."""
        return len(self.decoder.layers)

    @property
    def width(self) -> int:
        """Length D of the decoder's states."""
        return int(self.decoder.embed_tokens.weight.shape[1])

    @property
    def dimension(self) -> int:
        """Length of the embedding: that of the states, or what the head makes of them."""
        return self.width if self.head is None else self.head.outputs

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self.decoder.norm.weight.device)

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        found: torch.dtype = self.decoder.norm.weight.dtype
        return found

    def limit_pixels(self, most: int) -> None:
        """Reduce images to at most this area in pixels, from now on and in what is saved.

        Raises:
            ConfigError: not one token of an image fits into it.
        """
        if self.image_processor is None:
            return
        side = self.image_processor.patch_size * self.image_processor.merge_size
        if most < side**2:
            raise ConfigError(
                f"At most {most:,} pixels of an image were asked for.",
                cause=f"One token of the model stands for {side} x {side} of them.",
                hint=f"Allow {side**2:,} or more.",
            )
        self.settings = self.settings.limited(most)
        self.image_processor.size = self.settings.image_size
        # It remembers images as they were shown.
        self.forget()

    def forget(self) -> None:
        """Forget images and prompts that were read before, as at the start of a command."""
        self.processor = self._new_processor()

    def vision_features(self, batch: Batch) -> Any:
        """Return what the vision tower says of the batch's images, or None without images.

        Computed once, it may be given to several `embed` calls on the same batch.
        """
        return self.family.features(self.model, batch)

    def embed(self, batch: Batch, vision: Any = None, inner: Sequence[int] = ()) -> Tensor:
        """Return un-normalised embeddings (B, D): the post-norm states, through the head if any.

        Args:
            inner: depths k (1 to L) whose read-outs norm(h[k]) follow in the same rows, which then
                have D + len(inner) * width numbers.
        """
        with self._watched(inner, batch) as seen:
            embeddings = self.apply_head(self.last_states(batch, vision))
        if not inner:
            return embeddings
        return torch.cat([embeddings, *(seen[depth] for depth in inner)], dim=-1)

    @contextmanager
    def _watched(self, depths: Sequence[int], batch: Batch) -> Iterator[dict[int, Tensor]]:
        """Note the read-outs (B, D) after each of the depths."""
        seen: dict[int, Tensor] = {}

        def note(depth: int) -> Any:
            def keep(_: nn.Module, args: object, output: Any) -> None:
                hidden = output[0] if isinstance(output, tuple) else output
                if self.settings.pooling == MEAN:
                    seen[depth] = mean_rows(self.read_out(hidden), batch.attention_mask)
                else:
                    seen[depth] = self.read_out(rows_at(hidden, batch.places))

            return self.decoder.layers[depth - 1].register_forward_hook(keep)

        hooks = [note(depth) for depth in depths]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()

    def last_states(self, batch: Batch, vision: Any = None) -> Tensor:
        """Return the pooled post-norm states (B, D), computing as little as can be."""
        if self.settings.pooling == MEAN:
            return self.post_norm_states(batch, vision)
        with self._brief(batch.places):
            return self.post_norm_states(batch, vision)

    @contextmanager
    def _brief(self, last: Tensor) -> Iterator[None]:
        """Compute the feed-forward part of the last layer at the embed token alone.

        What it would say of other tokens nobody reads. With gradients, where a layer may be run
        again without the context, all is computed, and in training, where a pass must draw the
        random numbers that one with gradients draws.
        """
        if torch.is_grad_enabled() or self.model.training:
            yield
            return
        shape: list[torch.Size] = []

        def take(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
            shape.append(args[0].shape)
            return (rows_at(args[0], last),)

        def put(_: nn.Module, args: object, output: Tensor) -> Tensor:
            whole = output.new_zeros(shape.pop())
            whole[torch.arange(len(last), device=whole.device), last] = output
            return whole

        part = self.decoder.layers[-1].mlp
        hooks = [part.register_forward_pre_hook(take), part.register_forward_hook(put)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def no_rows(self, inner: int = 0) -> Tensor:
        """Return what `embed` gives for no inputs (0, D + inner)."""
        return torch.empty(0, self.dimension + inner, dtype=self.dtype, device=self.device)

    def apply_head(self, states: Tensor) -> Tensor:
        """Map post-norm states (..., D) to embeddings; without a head they are the same."""
        if self.head is None:
            return states
        mapped: Tensor = self.head(states)
        return mapped

    def post_norm_states(self, batch: Batch, vision: Any = None) -> Tensor:
        """Return the pooled post-norm states (B, D), as plain transformers gives them."""
        if vision is None:
            vision = self.vision_features(batch)
        # Positions are given, so the model needs no grid to find them.
        with self.family.shown(self.model, vision, batch) as further:
            out = self.model(
                input_ids=batch.input_ids,
                # What is padded lies behind every real token, where causal attention never looks:
                # without a mask, every back-end takes its fastest way.
                attention_mask=None if self.causal else batch.attention_mask,
                position_ids=self.family.positions(batch),
                use_cache=False,
                **further,
            )
        if self.settings.pooling == MEAN:
            return mean_rows(out.last_hidden_state, batch.attention_mask)
        return rows_at(out.last_hidden_state, batch.places)

    def read_out(self, hidden: Tensor) -> Tensor:
        """Apply the final norm to residual states (..., D)."""
        result: Tensor = self.decoder.norm(hidden)
        return result

    @contextmanager
    def layers(self, kept: Sequence[int]) -> Iterator[None]:
        """Run only the decoder layers `kept` while the context is open; weights are shared."""
        full = self.decoder.layers
        self.decoder.layers = nn.ModuleList([full[index] for index in kept])
        try:
            yield
        finally:
            self.decoder.layers = full

    # Not inference mode: into its tensors, a sharded network could not gather weights to train.
    @torch.no_grad()
    def encode(
        self,
        inputs: Sequence[Input],
        batch_size: int = 128,
        reporter: Reporter = SILENT,
        label: str = "encode",
        processes: Processes = ALONE,
        tokens: int | None = None,
    ) -> Tensor:
        """Return the L2-normalised embeddings of `inputs`, in order, fp32 on the CPU (N, D).

        Of several processes, each embeds its share of them, and gets all.

        Args:
            batch_size: most inputs at once (>= 1).
            tokens: most tokens at once, or None for what suits the device.
        """
        out = torch.zeros(len(inputs), self.dimension)
        plan = list(self.plan(inputs, batch_size, tokens))
        share = processes.share(plan)
        with evaluation_mode(self.model):
            for chosen, batch in self.collated(share, inputs, reporter, label):
                out[chosen] = normalize(self.embed(batch).float(), dim=-1).cpu()
            # Weights in parts on the processes come together only if all make every pass.
            for _ in range(-(-len(plan) // processes.count) - len(share)):
                self.embed(self.collate(inputs[:1]).to(self.device))
        # Every row is 0 but in one process.
        processes.total(out)
        return out

    def to(self, device: torch.device) -> Embedder:
        """Move the weights, the head's too, to `device`."""
        self.model.to(device)
        if self.head is not None:
            self.head.to(device)
        return self

    def save(self, folder: Path, dtype: str = "auto") -> None:
        """Write the checkpoint and all its side files into `folder`, which exists.

        Args:
            dtype: number format of the weights; `auto` keeps that of the model in memory. A head
                stays in float32.
        """
        state = None
        if dtype != "auto":
            state = {
                name: value.to(DTYPES[dtype]) for name, value in self.model.state_dict().items()
            }
            self.model.config.dtype = DTYPES[dtype]
        self.tokenizer.chat_template = self.settings.template
        with quiet_transformers():
            self.model.save_pretrained(folder, state_dict=state)
            self.tokenizer.save_pretrained(folder)
            if self.image_processor is not None:
                self.image_processor.save_pretrained(folder)
        name = None
        if self.head is not None:
            name = self.settings.head or BRIDGE
            # One that came as a module of sentence-transformers is written as puma's own.
            name = name if name.endswith(".safetensors") else BRIDGE
            write_head(self.head, folder / name)
        settings = replace(self.settings, head=name, dimension=self.dimension)
        write_embedder_settings(settings, folder)
