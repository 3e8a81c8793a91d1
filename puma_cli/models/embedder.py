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
    EmbedderSettings,
    write_embedder_settings,
)
from puma_cli.models.head import Head, write_head
from puma_cli.models.head_file import BRIDGE
from puma_cli.models.inputs import Input
from puma_cli.models.modes import evaluation_mode
from puma_cli.models.processing import Batch, Processor
from puma_cli.models.quiet import quiet_transformers
from puma_cli.processes import ALONE, Processes
from puma_cli.progress import SILENT, Reporter


class Embedder(Batching):
    """A Qwen2-VL decoder read at the embed token.

    The embedding is the post-norm hidden state `norm(h[L])` of the last token (method of the paper,
    section 3), mapped by the head where there is one, L2-normalised where cosines are wanted.
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
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.settings = settings
        self.folder = folder
        self.head = head
        self.processor = self._new_processor()

    def _new_processor(self) -> Processor:
        return Processor(
            self.tokenizer,
            self.image_processor,
            self.settings,
            positions=self.model.get_rope_index,
        )

    @property
    def decoder(self) -> Any:
        """The language model: `layers`, `norm`, `embed_tokens`."""
        return self.model.language_model

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
        side = self.image_processor.patch_size * self.image_processor.merge_size
        if most < side**2:
            raise ConfigError(
                f"At most {most:,} pixels of an image were asked for.",
                cause=f"One token of the model stands for {side} x {side} of them.",
                hint=f"Allow {side**2:,} or more.",
            )
        self.settings = self.settings.limited(most)
        self.image_processor.size = self.settings.image_size
        # A new one: it remembers images as they were shown.
        self.processor = self._new_processor()

    def vision_features(self, batch: Batch) -> Any:
        """Return what the vision tower says of the batch's images, or None without images.

        Computed once, it may be given to several `embed` calls on the same batch.
        """
        if batch.pixel_values is None:
            return None
        return self.model.get_image_features(batch.pixel_values, batch.image_grid, return_dict=True)

    def embed(self, batch: Batch, vision: Any = None, inner: Sequence[int] = ()) -> Tensor:
        """Return un-normalised embeddings (B, D): the post-norm states, through the head if any.

        Args:
            inner: depths k (1 to L) whose read-outs norm(h[k]) follow in the same rows, which then
                have D + len(inner) * width numbers.
        """
        with self._watched(inner, batch.last) as seen:
            embeddings = self.apply_head(self.last_states(batch, vision))
        if not inner:
            return embeddings
        return torch.cat([embeddings, *(self.read_out(seen[depth]) for depth in inner)], dim=-1)

    @contextmanager
    def _watched(self, depths: Sequence[int], last: Tensor) -> Iterator[dict[int, Tensor]]:
        """Note the residual stream at the embed token (B, D) after each of the depths."""
        seen: dict[int, Tensor] = {}

        def note(depth: int) -> Any:
            def keep(_: nn.Module, args: object, output: Any) -> None:
                hidden = output[0] if isinstance(output, tuple) else output
                seen[depth] = _rows_at(hidden, last)

            return self.decoder.layers[depth - 1].register_forward_hook(keep)

        hooks = [note(depth) for depth in depths]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()

    def last_states(self, batch: Batch, vision: Any = None) -> Tensor:
        """Return the post-norm states at the embed token (B, D), computing as little as can be."""
        with self._brief(batch.last):
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
            return (_rows_at(args[0], last),)

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
        """Return the post-norm states at the embed token (B, D), as plain transformers gives."""
        if vision is None:
            vision = self.vision_features(batch)
        # Positions are given, so the model needs no grid to find them.
        with self._shown(vision, batch.token_types):
            out = self.model(
                input_ids=batch.input_ids,
                # What is padded lies behind the embed token, where causal attention never looks:
                # without a mask, every back-end takes its fastest way.
                attention_mask=None,
                position_ids=batch.position_ids,
                use_cache=False,
            )
        return _rows_at(out.last_hidden_state, batch.last)

    @contextmanager
    def _shown(self, vision: Any, token_types: Tensor) -> Iterator[None]:
        """Put what the vision tower says in the places of the image tokens (B, T).

        Releases of transformers differ in how a model takes what its tower has computed, and those
        that do not know a way ignore it without a word.
        """
        if vision is None:
            yield
            return

        def put(_: nn.Module, args: object, output: Tensor) -> Tensor:
            rows = torch.cat(tuple(vision.pooler_output)).to(output.device, output.dtype)
            return output.masked_scatter((token_types == 1).unsqueeze(-1), rows)

        hook = self.model.get_input_embeddings().register_forward_hook(put)
        try:
            yield
        finally:
            hook.remove()

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
            self.image_processor.save_pretrained(folder)
        name = None
        if self.head is not None:
            name = self.settings.head or BRIDGE
            write_head(self.head, folder / name)
        settings = replace(self.settings, head=name, dimension=self.dimension)
        write_embedder_settings(settings, folder)


def _rows_at(hidden: Tensor, last: Tensor) -> Tensor:
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), last]
