"""Broken weights: their bytes, their headers, their places."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from random import Random
from typing import Any

from tests.pruning.mutations.editing import (
    CONFIG,
    INDEX,
    ODD,
    edit_header,
    join,
    mutation,
    replace_value,
    shards,
    split,
)


@mutation
def truncated_files(folder: Path, random: Random) -> None:
    path = random.choice([*shards(folder), *shards(folder), folder / CONFIG, folder / INDEX])
    size = path.stat().st_size
    edge = [0, 1, 7, 8, 9, size - 1, size - 8, size // 2]
    os.truncate(path, random.choice([*edge, random.randrange(size)]))


@mutation
def bytes_added_or_lost(folder: Path, random: Random) -> None:
    path = random.choice(shards(folder))
    raw = path.read_bytes()
    at, count = random.randrange(len(raw)), random.choice([1, 2, 8, 64])
    if random.random() < 0.5:
        path.write_bytes(raw[:at] + random.randbytes(count) + raw[at:])
    else:
        path.write_bytes(raw[:at] + raw[at + count :])


@mutation
def bytes_flipped(folder: Path, random: Random) -> None:
    path = random.choice(shards(folder))
    header, _ = split(path)
    raw = bytearray(path.read_bytes())
    for _ in range(random.choice([1, 1, 2, 16])):
        at = (
            random.randrange(8 + len(header))
            if random.random() < 0.9
            else random.randrange(len(raw))
        )
        raw[at] ^= 1 << random.randrange(8)
    path.write_bytes(raw)


@mutation
def header_lengths(folder: Path, random: Random) -> None:
    path = random.choice(shards(folder))
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    near = [length + random.randint(-40, 40), len(raw), len(raw) - 8, len(raw) - 7, 0, 1, 2]
    far = [10**8, 10**8 + 1, 2**31, 2**32, 2**62, 2**63, 2**64 - 1, random.getrandbits(64)]
    raw = struct.pack("<Q", max(0, random.choice(near + far))) + raw[8:]
    path.write_bytes(raw)
    if random.random() < 0.2:
        os.truncate(path, 10**9)  # sparse: long enough for the header that is claimed


@mutation
def tensor_offsets(folder: Path, random: Random) -> None:
    def change(header: dict[str, Any], name: str) -> None:
        start, end = header[name]["data_offsets"]
        shift = random.choice([1, -1, 2, 4, -4, 8, 100, -start - 1, 2**40, 2**63, 10**25])
        other = random.choice([n for n in header if n != "__metadata__"])
        header[name]["data_offsets"] = random.choice(
            [
                [start + shift, end + shift],
                [start, end + shift],
                [start + shift, end],
                [end, start],
                header[other]["data_offsets"],
                [0, 0],
                [start],
                [start, end, end],
                [],
            ]
        )

    edit_header(folder, random, change)


@mutation
def tensor_dtypes(folder: Path, random: Random) -> None:
    names = ["F32", "I32", "U32", "F16", "BF16", "F64", "I8", "BOOL", "F4", "F6_E2M3", "C64", "f32"]
    odd = ["", "FLOAT", "F32 ", None, 4, True, ["F32"], {"F32": 1}, "torch.float32", "X" * 10_000]
    edit_header(
        folder, random, lambda header, name: header[name].update(dtype=random.choice(names + odd))
    )


@mutation
def tensor_shapes(folder: Path, random: Random) -> None:
    def change(header: dict[str, Any], name: str) -> None:
        shape = header[name]["shape"]
        odd = random.choice([-1, 0, 1, 2**31, 2**62, 2**64, 10**40, True, 1.0, "8", None, [8], 3])
        header[name]["shape"] = random.choice(
            [
                shape[::-1],
                [*shape, odd],
                [odd, *shape[1:]],
                [*shape, *[1] * random.choice([1, 30, 100, 5000])],
                [2**62, 2**62, 0],
                [],
                odd,
                [-size for size in shape],
            ]
        )

    edit_header(folder, random, change)


@mutation
def wrong_types_in_headers(folder: Path, random: Random) -> None:
    edit_header(folder, random, lambda header, _: replace_value(header, random, random.choice(ODD)))


@mutation
def tensor_names(folder: Path, random: Random) -> None:
    names = ["", "model", "model.layers.0", "model.layers.99.x", "\ud800", "a" * 5000, "\0", "../x"]
    names += ["model.layers.-1.x", "model.layers.1e3.w", "model.layers.٣.w", "lm_head.weight"]

    def change(header: dict[str, Any], name: str) -> None:
        new = random.choice([*names, name.replace("1", "7"), name.upper(), name + " ", name[:-1]])
        entry = header[name] if random.random() < 0.5 else header.pop(name)
        header[new] = entry

    edit_header(folder, random, change)


@mutation
def files_exchanged(folder: Path, random: Random) -> None:
    files = [*shards(folder), folder / CONFIG, folder / INDEX]
    one, other = random.sample(files, 2)
    first, second = one.read_bytes(), other.read_bytes()
    kind = random.randrange(4)
    if kind == 0:
        one.write_bytes(second)
        other.write_bytes(first)
    elif kind == 1:
        one.write_bytes(second)
    elif kind == 2:
        one.unlink()
    else:
        (a, _), (_, d) = (split(path) for path in random.sample(shards(folder), 2))
        join(random.choice(shards(folder)), a, d)
