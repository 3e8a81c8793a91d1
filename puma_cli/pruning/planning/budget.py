"""As many layers as fit a number of parameters or bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from puma_cli.checkpoint.safetensors_header import TensorEntry
from puma_cli.config.layers import first_layers, keep_last_layers
from puma_cli.errors import CheckpointError, ConfigError
from puma_cli.pruning.planning.config_edit import edited_config
from puma_cli.pruning.planning.parent import Parent, read_parent
from puma_cli.pruning.planning.plan import Move, divide
from puma_cli.report.numbers import count, size_on_disk


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
