"""The fields of a decoder's config section that depend on its layers, edited for a cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from puma_cli.config.layers import are_first
from puma_cli.errors import CheckpointError
from puma_cli.pruning.planning.families import Every, Family

DEPTH: Final = "num_hidden_layers"
# Every configuration of transformers may have these.
_TYPES: Final = "layer_types"
_LISTS: Final = (_TYPES, "mlp_layer_types")
_PER_LAYER: Final = "per_layer_config"


def edit_layer_fields(
    section: dict[str, Any], family: Family, depth: int, kept: Sequence[int]
) -> None:
    """Change a decoder's config section in place so that it describes the layers `kept`.

    Args:
        section: the part of the raw config that describes the decoder.
        family: what is known of that decoder.
        depth: its number of layers L.
        kept: ascending indices of the layers that stay, below `depth`.

    Raises:
        CheckpointError: the section is broken, or no config describes such a cut.
    """
    first = are_first(kept)
    if len(kept) == depth:
        return
    _check(section, family, depth, kept, first)
    for name in {**dict.fromkeys(_LISTS), **family.lists}:
        values = _values(section, family, name, depth, first)
        if values is not None:
            section[name] = [values[layer] for layer in kept]
    for name in family.indices:
        numbers = _numbers(section, family, name, depth, first)
        if numbers is not None:
            section[name] = [slot for slot, layer in enumerate(kept) if layer in numbers]
    for name, default in family.leading.items():
        limit = _whole(section, name, default)
        count = sum(layer < limit for layer in kept)
        if section.get(name) is not None or count != min(limit, len(kept)):
            section[name] = count
    if isinstance(section.get(_PER_LAYER), dict):
        section[_PER_LAYER] = _renumbered(section[_PER_LAYER], kept)
    section[DEPTH] = len(kept)


def _check(
    section: dict[str, Any], family: Family, depth: int, kept: Sequence[int], first: bool
) -> None:
    """Raise CheckpointError if the decoder cannot be cut to `kept`."""
    for name, (default, reason) in family.zero.items():
        if _whole(section, name, default):
            raise CheckpointError(
                "This checkpoint cannot be cut safely.",
                cause=f"Of this architecture, {reason} ({name}).",
                hint="Use a model whose layers stand for themselves.",
            )
    if not first and family.first_only:
        raise _only_first(family.first_only)
    for name, harmless in family.periodic.items():
        if not first and _whole(section, name, harmless) != harmless:
            raise _only_first(f"which layers are of which kind follows from their number ({name})")
    if family.one_of:
        numbers = _numbers(section, family, family.one_of, depth, first=False) or set()
        if not numbers & set(kept):
            least = min(numbers, default=depth)
            raise CheckpointError(
                f"The layers {list(kept)} would never see an image.",
                cause=f"Images enter through cross-attention in layers {sorted(numbers)} alone.",
                hint=f"Keep layer {least}, such as with --keep {least + 1}.",
            )
    if family.last_type:
        types = _values(section, family, _TYPES, depth, first=False) or [family.last_type] * depth
        if types[kept[-1]] != family.last_type:
            fitting = [str(layer + 1) for layer in range(depth) if types[layer] == family.last_type]
            raise CheckpointError(
                f"Layer {kept[-1]} cannot become the last one.",
                cause=f"This architecture makes its last layer one of {family.last_type}; "
                f"that one is of {types[kept[-1]]}.",
                hint=f"Use --keep {', '.join(fitting[:-1])} or {fitting[-1]}."
                if len(fitting) > 1
                else "",
            )


def _values(
    section: dict[str, Any], family: Family, name: str, depth: int, first: bool
) -> list[Any] | None:
    """Return one value per layer, or None where the config needs no such list."""
    values = section.get(name)
    if values:
        if not isinstance(values, list) or len(values) != depth:
            count = f"{len(values)} values" if isinstance(values, list) else f"`{values}`"
            raise CheckpointError(
                f"config.json has {count} of {name} for {depth} decoder layers.",
                hint="Download or copy the checkpoint again.",
            )
        return values
    rule = family.lists.get(name)
    # What is made up from layers' numbers stays right where the numbers stay.
    if rule is None or first:
        return None
    differs = _pattern(section, rule)
    return [rule.last if differs(layer) else rule.usual for layer in range(depth)]


def _numbers(
    section: dict[str, Any], family: Family, name: str, depth: int, first: bool
) -> set[int] | None:
    """Return the numbers of the layers that a field lists, or None where it can stay away."""
    values = section.get(name)
    if values is not None:
        if not isinstance(values, list) or any(type(value) is not int for value in values):
            raise CheckpointError(
                f"config.json has {name} = {values!r}, which is no list of layers.",
                hint="Download or copy the checkpoint again.",
            )
        return set(values)
    rule = family.indices[name]
    if first:
        return None
    if isinstance(rule, tuple):
        return {layer for layer in rule if layer < depth} or None
    differs = _pattern(section, rule)
    return {layer for layer in range(depth) if differs(layer)}


def _pattern(section: dict[str, Any], rule: Every) -> Callable[[int], bool]:
    """Return a function that tells whether a layer is one of the differing ones."""
    period = _whole(section, rule.key, rule.period) if rule.key else rule.period
    if period < 1:
        raise CheckpointError(f"config.json has {rule.key} = {period}, which is no period.")
    return lambda layer: (layer + 1) % period == 0


def _whole(section: dict[str, Any], name: str, default: int) -> int:
    value = section.get(name)
    if value is None:
        return default
    if type(value) is not int or value < 0:
        raise CheckpointError(
            f"config.json has {name} = {value!r}, which is no whole number.",
            hint="Download or copy the checkpoint again.",
        )
    return value


def _renumbered(values: dict[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    if not all(key.isdecimal() for key in values):
        raise CheckpointError(f"config.json has a {_PER_LAYER} whose keys are no layers.")
    slots = {layer: slot for slot, layer in enumerate(kept)}
    return {str(slots[int(key)]): value for key, value in values.items() if int(key) in slots}


def _only_first(reason: str) -> CheckpointError:
    return CheckpointError(
        "Only first layers can be kept of this checkpoint.",
        cause=f"{reason[0].upper()}{reason[1:]}.",
        hint="Use --keep.",
    )
