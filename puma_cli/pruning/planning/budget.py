"""As many layers as fit a number of parameters or bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from puma_cli.checkpoint.safetensors_header import TensorEntry
from puma_cli.config.layers import first_layers, keep_last_layers
from puma_cli.errors import CheckpointError, ConfigError
from puma_cli.pruning.planning.config_edit import edited_config
from puma_cli.pruning.planning.parent import Parent, read_parent
from puma_cli.pruning.planning.plan import Move, divide
from puma_cli.report.numbers import count, size_on_disk

_AMOUNT: Final = re.compile(r"(\d{1,15}(?:\.\d{1,9})?|\.\d{1,9})\s*([A-Za-z]*)")
_COUNTS: Final = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_SIZES: Final = {
    "": 1,
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
}


def parse_count(text: str) -> int:
    """Return a number of parameters such as `4B` (10^9), `350M` or `1500000000`.

    Raises:
        ConfigError: the text is no such number, or less than one.
    """
    if text.strip().lower().endswith(("gb", "mb", "kb", "tb", "ib")):
        raise ConfigError(
            f"`{text}` is a size, not a number of parameters.", hint=f"Give it with --size {text}."
        )
    return _parse(text, _COUNTS, "a number of parameters", "4B, 350M or 1500000000")


def parse_size(text: str) -> int:
    """Return a number of bytes such as `8GB` (10^9) or `7.5GiB` (2^30).

    Raises:
        ConfigError: the text is no such number, or less than one.
    """
    return _parse(text, _SIZES, "a size", "8GB, 7.5GiB or 500MB")


def largest_within(
    folder: Path,
    *,
    tensors: Mapping[str, TensorEntry] | None = None,
    parameters: int | None = None,
    size: int | None = None,
    keep_last: bool = False,
    head: str = "auto",
    dtype: str = "auto",
) -> tuple[int, ...]:
    """Return the most layers of a checkpoint whose cut keeps within a budget.

    Args:
        folder: the checkpoint.
        tensors: its headers, if they are known already.
        parameters: most parameters of the cut model, or None for no bound.
        size: most bytes of its weights, after a cast, or None for no bound.
        keep_last: keep the last layer and the first of the others, not the first ones alone.
        head, dtype: as for `make_plan`, whose choice of layers this is.

    Returns:
        ascending indices of the layers.

    Raises:
        CheckpointError: the checkpoint is broken or cannot be cut so far.
        ConfigError: no bound is given, or even the fewest layers are beyond it.
    """
    if parameters is None and size is None:
        raise ConfigError("No budget is given.", hint="Give --parameters or --size.")
    parent = read_parent(folder, tensors)
    choose: Callable[[int, int], tuple[int, ...]] = keep_last_layers if keep_last else first_layers

    def cost(keep: int) -> tuple[int, int]:
        moves, *_ = divide(parent, choose(keep, parent.depth), head=head, dtype=dtype)
        return _cost(moves)

    def fits(keep: int) -> bool:
        amount, room = cost(keep)
        return (parameters is None or amount <= parameters) and (size is None or room <= size)

    least = 2 if keep_last else 1
    if not fits(least):
        raise _too_small(least, cost(least), parameters, size)
    # Each choice holds every smaller one, so the costs rise.
    low, high = least, parent.depth
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return _possible([choose(keep, parent.depth) for keep in range(low, least - 1, -1)], parent)


def _possible(choices: list[tuple[int, ...]], parent: Parent) -> tuple[int, ...]:
    """Return the first of the choices that the architecture allows."""
    refusal: CheckpointError | None = None
    for layers in choices:
        try:
            edited_config(parent.config, parent.section, layers)
        except CheckpointError as error:
            refusal = refusal or error
        else:
            return layers
    assert refusal is not None
    raise refusal


def _cost(moves: list[Move]) -> tuple[int, int]:
    return sum(move.entry.parameters for move in moves), sum(move.size for move in moves)


def _too_small(
    least: int, cost: tuple[int, int], parameters: int | None, size: int | None
) -> ConfigError:
    given = [f"{count(parameters)} parameters"] if parameters is not None else []
    given += [size_on_disk(size)] if size is not None else []
    layers = "one layer" if least == 1 else f"{least} layers"
    return ConfigError(
        f"The budget of {' and '.join(given)} is too small.",
        cause=f"With {layers} the model has {count(cost[0])} parameters in "
        f"{size_on_disk(cost[1])}: its embeddings, vision tower and norms stay whole.",
        hint="Give a larger budget, or a smaller model.",
    )


def _parse(text: str, units: Mapping[str, int], what: str, examples: str) -> int:
    from fractions import Fraction  # brings decimal, which most cuts have no use for

    match = _AMOUNT.fullmatch(text.strip())
    unit = match[2].lower() if match else ""
    if match is None or unit not in units:
        guess = _guess(unit, units) if match else ""
        raise ConfigError(
            f"`{text}` is not {what}.",
            cause=f"Did you mean `{match[1]}{guess}`?" if match and guess else "",
            hint=f"Write it such as {examples}.",
        )
    amount = int(Fraction(match[1]) * units[unit])
    if amount < 1:
        raise ConfigError(f"`{text}` is less than one.", hint=f"Write it such as {examples}.")
    return amount


def _guess(unit: str, units: Mapping[str, int]) -> str:
    """Return the unit that a misspelt one probably stands for, spelled as people do."""
    for candidate in units:
        if candidate and candidate.removesuffix("b") == unit.removesuffix("b")[:1]:
            return candidate.upper()
    return ""
