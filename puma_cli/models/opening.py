"""Opening a checkpoint as an embedder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from puma_cli.checkpoint.source import resolve
from puma_cli.config.lora_settings import NF4, UNQUANTIZED
from puma_cli.errors import CheckpointError
from puma_cli.models.attention import check_attention
from puma_cli.models.devices import choose_device, choose_dtype
from puma_cli.models.embedder import Embedder
from puma_cli.models.embedder_settings import settings_for
from puma_cli.models.families import FAMILIES
from puma_cli.models.family_names import EMBEDS
from puma_cli.models.head import read_head
from puma_cli.models.importing.remote_code import refused_code, remote_code
from puma_cli.models.processors import open_processors
from puma_cli.models.prompt import check_prompt
from puma_cli.models.quantization import nf4_options, settle_quantized
from puma_cli.models.quiet import quiet_transformers
from puma_cli.models.vision_attention import pack_images


def load(
    model: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str = UNQUANTIZED,
    attention: str = "sdpa",
    *,
    trust_remote_code: bool = False,
) -> Embedder:
    """Open a checkpoint: a folder, `puma-mini` or a hub `id@revision`.

    Args:
        quantize: `nf4` opens the decoder's linear layers in 4 bits, to train adapters over them.
        attention: `sdpa`, `eager`, or `flash_attention_2` where that is installed.
        trust_remote_code: run code that the checkpoint brings along; without it such a checkpoint
            is refused.

    Raises:
        ConfigError: what opens 4-bit weights, or computes attention, is not there.
        CheckpointError: a file is missing or broken; a weight is missing, unexpected or misshapen;
            the head does not fit; it needs code of its own.
    """
    from transformers import AutoModel

    folder = resolve(model)
    place = choose_device(device)
    number = choose_dtype(dtype, place)
    check_attention(attention, place, number)
    code = remote_code(folder)
    if code and not trust_remote_code:
        raise refused_code(folder, code)
    settings = settings_for(folder)
    options = nf4_options(place, number) if quantize == NF4 else {}
    try:
        with quiet_transformers():
            network, report = AutoModel.from_pretrained(
                folder,
                dtype=number,
                attn_implementation=attention,
                **options,
                output_loading_info=True,
                # Reported like the others, and refused below by name.
                ignore_mismatched_sizes=True,
                trust_remote_code=bool(code),
            )
        tokenizer, image_processor = open_processors(folder, settings)
    except CheckpointError:
        raise
    except Exception as error:  # transformers and safetensors raise many kinds here
        raise CheckpointError(
            f"{folder} cannot be opened as a model.",
            cause=f"{type(error).__name__}: {error}",
            hint=f"puma info {folder} says what the folder holds.",
        ) from error
    _check_keys(folder, report)
    settle_quantized(network, place)
    model_type = getattr(network.config, "model_type", None)
    if model_type not in FAMILIES:
        raise CheckpointError(
            f"{folder} holds a {type(network).__name__}, which puma does not embed with.",
            hint=f"This version reads the architectures {', '.join(sorted(EMBEDS))}.",
        )
    embedder = Embedder(network.eval(), tokenizer, image_processor, settings, folder)
    embedder.causal = not code
    if embedder.tower is not None:
        pack_images(embedder.tower)
    check_prompt(tokenizer, settings, folder)
    if settings.head is not None:
        embedder.head = read_head(folder, settings.head, embedder.width, settings.dimension)
    return embedder.to(place)


def _check_keys(folder: Path, report: dict[str, Any]) -> None:
    # An embedder has no use for the LM head; anything else unexpected means a wrong layout, and a
    # missing weight would be random numbers.
    extra = [key for key in report["unexpected_keys"] if not key.startswith("lm_head")]
    for problem, keys in (
        ("lacks the weight", sorted(report["missing_keys"])),
        ("has the unexpected weight", sorted(extra)),
        ("has a misshapen weight", sorted(str(key) for key in report["mismatched_keys"])),
    ):
        if keys:
            raise CheckpointError(
                f"{folder} {problem} {keys[0]}.",
                cause=f"{len(keys)} such weights; the files do not fit config.json.",
                hint="Download the checkpoint again, or cut it again with `puma prune`.",
            )
