"""What a vector hangs on: the content of the model and of the input, never a name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from puma_cli.checkpoint.layout import LAYOUT, PROVENANCE
from puma_cli.checkpoint.shard_index import weight_files
from puma_cli.encoding.file_hashes import FileHashes
from puma_cli.errors import CheckpointError
from puma_cli.models.embedder_settings import has_embedder_settings, read_embedder_settings
from puma_cli.models.inputs import Input

# Changes whenever the same input may be embedded otherwise than before.
FORMAT = 2
# Bytes of a key: no two of a billion inputs will share one.
KEY_BYTES = 16
# Settings, tokenizer, template and image processor lie in files of these names.
_SMALL = ("*.json", "*.jinja", "*.txt", "*.model")

Keys = NDArray[np.bytes_]
"""Keys of N inputs, each of 16 bytes (N,)."""


def model_content(folder: Path, hashes: FileHashes, **computed: object) -> str:
    """Return a hash of all that the vectors of a checkpoint hang on.

    It covers every byte of the weights, and all small files but the record of where they come from.

    Args:
        computed: how they are computed, such as the number format; None counts as not given.

    Raises:
        CheckpointError: the weights or `embedder.json` are missing or cannot be read.
    """
    files = weight_files(folder)
    if has_embedder_settings(folder):
        head = read_embedder_settings(folder).head
        files += [] if head is None else [folder / head]
    patterns: tuple[str, ...] = _SMALL
    if (folder / LAYOUT.modules).is_file():
        # Without `embedder.json` its modules say how it embeds.
        files += sorted(folder.glob("*/*.safetensors"))
        patterns += ("*/config.json",)
    small = {file for pattern in patterns for file in folder.glob(pattern)}
    files += sorted(file for file in small if file.name != PROVENANCE and file.is_file())
    found = hashes.of(files)
    unread = next((file for file in files if found[file] is None), None)
    if unread is not None:
        raise CheckpointError(f"`{unread}` cannot be read.")
    digest = hashlib.sha256(f"{FORMAT}\0".encode())
    for file in files:
        digest.update(f"{file.name}\0".encode("utf-8", "surrogateescape"))
        digest.update(found[file] or b"")
    given = {name: value for name, value in sorted(computed.items()) if value is not None}
    digest.update(json.dumps(given, default=str).encode())
    return digest.hexdigest()


def input_keys(inputs: Sequence[Input], hashes: FileHashes) -> Keys:
    """Return the keys of inputs, from their texts and the bytes of their images (N,)."""
    shown = hashes.of(entry.image for entry in inputs if entry.image is not None)
    keys = bytearray()
    for entry in inputs:
        image = None
        if entry.image is not None:
            seen = shown[entry.image]
            # Said clearly where the image is opened; should it appear, its key is another.
            image = f"unreadable {entry.image}" if seen is None else seen.hex()
        row = json.dumps([entry.text, entry.instruction, image, entry.view])
        keys += hashlib.sha256(row.encode()).digest()[:KEY_BYTES]
    return np.frombuffer(bytes(keys), dtype=f"S{KEY_BYTES}")
