"""One file of a store: some rows of vectors and the key of each, written whole or not at all."""

from __future__ import annotations

import hashlib
import secrets
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from puma_cli.checkpoint.output_folder import explained_writes
from puma_cli.encoding.cache_folder import DRAFT, SHARD
from puma_cli.encoding.identity import KEY_BYTES, Keys

_VECTORS, _KEYS, _SUM = "vectors", "keys", "crc32"
# A draft that old was left by a process that was killed.
_ABANDONED = 3_600.0


class Shard(NamedTuple):
    """Rows of a store.

    Args:
        keys: the key of each row (N,).
        vectors: mapped from the file (N, D).
    """

    keys: Keys
    vectors: Tensor


def write_shard(folder: Path, keys: Keys, vectors: Tensor) -> Path:
    """Write rows as a file of their own and return its path.

    It is named by the keys it holds, so that several processes may fill a folder at a time.

    Raises:
        OutputError: the disk is full or refuses.
    """
    raw = keys.tobytes()
    path = folder / f"{hashlib.sha256(raw).hexdigest()[: 2 * KEY_BYTES]}{SHARD}"
    draft = path.with_suffix(f".{secrets.token_hex(4)}{DRAFT}")
    table = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(-1, KEY_BYTES)
    tensors = {_VECTORS: vectors.contiguous(), _KEYS: table}
    with explained_writes(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            save_file(tensors, draft, {_SUM: _checksum(vectors, raw)})
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    return path


def read_shard(path: Path) -> Shard | None:
    """Return the rows of a file; None for one that is broken, which is removed, or gone."""
    try:
        with safe_open(path, "pt") as file:
            keys, vectors = file.get_tensor(_KEYS), file.get_tensor(_VECTORS)
            expected = (file.metadata() or {}).get(_SUM)
    except OSError:
        return None
    except SafetensorError:
        _remove(path)
        return None
    raw = keys.numpy().tobytes()
    if len(keys) != len(vectors) or expected != _checksum(vectors, raw):
        _remove(path)
        return None
    return Shard(np.frombuffer(raw, dtype=f"S{KEY_BYTES}"), vectors)


def shard_files(folder: Path) -> list[Path]:
    """Return the files of a store, sorted by name."""
    return sorted(folder.glob(f"*{SHARD}"))


def remove_abandoned(folder: Path) -> None:
    """Remove what processes that were killed left half written."""
    for draft in folder.glob(f"*{DRAFT}"):
        with suppress(OSError):
            if time.time() - draft.stat().st_mtime > _ABANDONED:
                draft.unlink()


def _checksum(vectors: Tensor, keys: bytes) -> str:
    plain = vectors.contiguous().view(torch.uint8).numpy()
    return f"{zlib.crc32(keys, zlib.crc32(plain.data)):08x}"


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
