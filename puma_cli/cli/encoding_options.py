"""The options of commands that encode whole data sets, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _tokens(text: str) -> int:
    return 0 if text == "auto" else _count(text, least=1)


def _workers(text: str) -> int:
    return -1 if text == "auto" else _count(text, least=0)


def _count(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise typer.BadParameter(f"{text!r} is neither auto nor a number from {least} up.")
    return int(text)


BatchTokens = Annotated[
    int | None,
    typer.Option(
        "--batch-tokens",
        metavar="N",
        parser=_tokens,
        help="Most tokens at once, or auto for what suits the device.  [default: auto]",
    ),
]
ImageWorkers = Annotated[
    int | None,
    typer.Option(
        "--image-workers",
        metavar="N",
        parser=_workers,
        help="Processes that decode images ahead, or auto.  [default: auto]",
    ),
]
Attention = Annotated[
    str | None,
    typer.Option("--attn", metavar="NAME", help="sdpa, eager, flash_attention_2.  [default: sdpa]"),
]
StoreDtype = Annotated[
    str | None,
    typer.Option(
        "--store-dtype",
        metavar="NAME",
        help="Format vectors are kept in: auto, float32, float16, bfloat16.  [default: auto]",
    ),
]
Cache = Annotated[
    bool | None,
    typer.Option(
        "--cache/--no-cache", help="Keep vectors, and take those that are kept.  [default: cache]"
    ),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        "--cache-dir", metavar="DIR", help="Where.  [default: $PUMA_CACHE, or ~/.cache/puma]"
    ),
]
Rehash = Annotated[
    bool | None,
    typer.Option("--rehash", help="Read model and images again to see whether they changed."),
]
NumProcesses = Annotated[
    int | None,
    typer.Option(
        "--num-processes", metavar="N", help="Share the encoding out to N processes.  [default: 1]"
    ),
]
