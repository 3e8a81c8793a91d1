"""What a checkpoint's config, headers and embedder settings say about it, without its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.decoder_keys import find_decoder, parameters_by_part
from puma_cli.checkpoint.json_object import read_object
from puma_cli.checkpoint.layout import CONFIG
from puma_cli.checkpoint.safetensors_header import checkpoint_headers
from puma_cli.errors import PumaError
from puma_cli.report.numbers import count, size_on_disk


def read_config(folder: Path) -> dict[str, Any]:
    """Return the raw `config.json` of a checkpoint.

    Raises:
        CheckpointError: it is missing or no JSON object.
    """
    return read_object(folder / CONFIG)


def model_facts(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield names and values that describe a checkpoint.

    Raises:
        CheckpointError: its config or weights are broken.
    """
    config = read_config(folder)
    tensors = checkpoint_headers(folder)
    decoder = find_decoder(tensors)
    names = [str(name) for name in config.get("architectures") or ()]
    yield "architecture", f"{', '.join(names) or 'unnamed'} ({config.get('model_type', 'no type')})"
    yield "decoder layers", str(decoder.depth)
    counts = parameters_by_part(decoder, tensors)
    parts = ", ".join(f"{part} {count(number)}" for part, number in counts.items())
    yield "parameters", f"{count(sum(counts.values()))}: {parts}"
    dtypes = Counter(entry.dtype for entry in tensors.values())
    files = len({entry.file for entry in tensors.values()})
    size = size_on_disk(sum(entry.size for entry in tensors.values()))
    yield "weights", f"{size} in {files} file{'s' * (files > 1)}, {' and '.join(sorted(dtypes))}"
    yield from _embedder_facts(folder)


def _embedder_facts(folder: Path) -> Iterator[tuple[str, str]]:
    from puma_cli.models.head_file import head_shape
    from puma_cli.models.importing.found import find_settings
    from puma_cli.models.processors import check_processors

    try:
        found = find_settings(folder)
        settings = found.settings
        check_processors(folder, settings)
        head = None if settings.head is None else head_shape(folder, settings.head)
    except PumaError as error:
        yield "embeds", f"no: {error.problem} {error.cause}".strip()
        return
    yield "dimension", str(settings.dimension)
    if head is not None:
        what = f"{settings.head}, {head[0]} to {head[1]}"
        yield "head", f"{what}: puma applies it, plain AutoModel gives the vectors before it"
    yield "embeds by", found.source
    ends = settings.embed_token or "whatever ends a text"
    where = {"last": "read there", "eos": "read at the last of these"}.get(settings.pooling)
    yield "ends on", f"{ends} ({where or f'pooled by {settings.pooling}'})"
    if settings.instruction == "system":
        yield "instruction", "in a system turn, or as the template has it"
    if settings.default_instruction is not None:
        yield "instruction of all without one", repr(settings.default_instruction)
    if settings.query_instruction is not None:
        yield "instruction of queries", repr(settings.query_instruction)
    if not settings.normalize:
        yield "length of vectors", "as it comes: they are not normalised"
    if settings.sees:
        yield "pixels per image", f"{settings.min_pixels} to {settings.max_pixels}"
    else:
        yield "images", "none: it embeds texts alone"
