"""A puma model as a model of mteb: `mteb.evaluate(MtebModel("student"), tasks)`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from puma_cli.checkpoint.fingerprint import identify
from puma_cli.checkpoint.source import resolve
from puma_cli.errors import ConfigError, DataError
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load

if TYPE_CHECKING:
    from numpy.typing import NDArray

try:
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta, ScoringFunction
    from mteb.types import PromptType
except ImportError as missing:
    raise ConfigError(
        "mteb is not installed.", cause=str(missing), hint="pip install 'puma-cli[mteb]'"
    ) from missing


class MtebModel(AbsEncoder):
    """Embeds the texts and images of mteb's tasks as `puma eval` embeds those of a data set.

    A query's instruction stands before its text, as the model was trained; documents have none.

    Args:
        model: folder, `puma-mini` or hub `id@revision`.
        revision: taken in by mteb alone, which records it.
        device: `auto`, or a device of torch.
        dtype: `auto`, or a float format.
        batch_size: inputs at once, where mteb does not say (>= 1).
        prompts: instructions by task name; other tasks have mteb's own. An empty one is none.

    Raises:
        CheckpointError: the model cannot be opened.
    """

    def __init__(
        self,
        model: str | Path,
        revision: str | None = None,
        *,
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int = 128,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        folder = resolve(model)
        self.model = load(folder, device or "auto", dtype)
        self._batch_size = batch_size
        self._prompts = dict(prompts or {})
        parameters = sum(each.numel() for each in self.model.model.parameters())
        name = str(model).strip("/").rpartition("/")[2].partition("@")[0]
        self.mteb_model_meta: ModelMeta = ModelMeta.create_empty(
            {
                "name": f"puma/{name}",
                # What the weights are, whatever they are called.
                "revision": revision or identify(folder).replace(":", "-"),
                "n_parameters": parameters,
                "embed_dim": self.model.dimension,
                "max_tokens": self.model.settings.max_text_tokens,
                "similarity_fn_name": ScoringFunction.COSINE,
                "use_instructions": True,
                "modalities": ["text", "image"] if self.model.settings.sees else ["text"],
            }
        )

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **options: Any,
    ) -> NDArray[Any]:
        """Return L2-normalised embeddings (N, D) of what a data loader of mteb gives.

        Raises:
            DataError: an input has neither a text nor an image.
        """
        instruction = self._instruction(task_metadata, prompt_type)
        size = int(options.get("batch_size") or self._batch_size)
        parts = []
        for batch in inputs:
            with _as_inputs(batch, instruction) as rows:
                parts.append(self.model.encode(rows, batch_size=size))
        return torch.cat(parts).numpy()

    def _instruction(self, task: Any, prompt_type: Any) -> str | None:
        if prompt_type != PromptType.query:
            return None
        if task.name in self._prompts:
            return self._prompts[task.name] or None
        found: str | None = self.get_instruction(task, prompt_type)
        return found or None


@contextmanager
def _as_inputs(batch: Mapping[str, Any], instruction: str | None) -> Iterator[list[Input]]:
    """Give the inputs of a batch; its images are files as long as the context is open."""
    texts, images = _column(batch, "text"), _column(batch, "image")
    count = max(len(texts), len(images))
    with TemporaryDirectory(prefix="puma-mteb-") as name:
        rows = []
        for place in range(count):
            text = str(texts[place]).strip() if texts and texts[place] is not None else ""
            image = images[place] if images else None
            path = None
            if image is not None:
                path = Path(name) / f"{place}.png"
                # Without loss, and without a moment more than it must take.
                image.save(path, "PNG", compress_level=1)
            if not text and path is None:
                raise DataError(f"Input {place} of a batch has neither a text nor an image.")
            rows.append(Input(text=text or None, image=path, instruction=instruction))
        yield rows


def _column(batch: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = batch.get(name)
    return [] if value is None else list(value)
