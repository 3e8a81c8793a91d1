"""The changes that a cut makes to a raw `config.json`, and to nothing else in it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from puma_cli.errors import CheckpointError
from puma_cli.pruning.planning.decoder_section import FURTHER, DecoderSection
from puma_cli.pruning.planning.layer_fields import DEPTH, edit_layer_fields
from puma_cli.pruning.planning.layer_names import rename_layers

_ARCHITECTURES: Final = "architectures"
_DTYPES: Final = ("dtype", "torch_dtype")
_LONGEST: Final = 60
_KNOWN_DTYPES: Final = frozenset({"float64", "float32", "float16", "bfloat16"})


@dataclass(frozen=True)
class ConfigChange:
    """One field that a cut changes; `key` is dotted where it is nested, None is an absent value."""

    key: str
    before: Any
    after: Any

    @property
    def words(self) -> tuple[str, str]:
        """What it was and what it becomes, short enough for a table."""
        return _in_words(self.before), _in_words(self.after)


def edited_config(
    config: dict[str, Any],
    section: DecoderSection,
    kept: Sequence[int],
    *,
    base: str = "",
    dtype: str = "auto",
    further: bool = False,
) -> tuple[dict[str, Any], tuple[ConfigChange, ...]]:
    """Return the config of the cut model and what changed in it.

    Args:
        config: the parent's raw config; not modified.
        section: where it describes the decoder.
        kept: ascending indices of the layers that stay, below the depth.
        base: class that the checkpoint is of from now on, as its LM head goes; empty: the same.
        dtype: torch's name of the dtype that the weights are cast to, or `auto` for none.
        further: whether layers beyond the decoder, which predict further tokens, go too.

    Raises:
        CheckpointError: the cut cannot be expressed in such a config.
    """
    depth = section.depth
    check_entered(config, section, kept)
    edited = copy.deepcopy(config)
    if len(kept) < depth:
        edited = rename_layers(edited, kept)
        target = section.of(edited)
        edit_layer_fields(target, section.decoder, depth, kept)
        if section.path and edited.get(DEPTH) == depth:
            # Ignored where a section states it, but some tools read it here.
            _edit_copy(edited, section, kept)
    if further:
        section.of(edited)[FURTHER] = 0
    if base and edited.get(_ARCHITECTURES) != [base]:
        edited[_ARCHITECTURES] = [base]
    if dtype != "auto":
        _edit_dtypes(edited, dtype)
    return edited, tuple(_changes(config, edited, ""))


def check_entered(config: dict[str, Any], section: DecoderSection, kept: Sequence[int]) -> None:
    """Raise CheckpointError unless the layers stay that vision features are added in."""
    path, default = section.whole.entered
    if not path:
        return
    value: Any = config
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    count = len(value) if isinstance(value, list) else default
    if list(kept[:count]) != list(range(count)):
        raise CheckpointError(
            f"The layers {list(kept)} miss features of the images.",
            cause=f"They are added to the output of each of the first {count} decoder layers "
            f"({'.'.join(path)}).",
            hint=f"Keep the layers 0 to {count - 1}, such as with --keep {count} or more.",
        )


def _edit_copy(edited: dict[str, Any], section: DecoderSection, kept: Sequence[int]) -> None:
    """Edit the fields that the config's root repeats."""
    copied = {key: edited[key] for key in (*_layer_fields(section), DEPTH) if key in edited}
    edit_layer_fields(copied, section.decoder, section.depth, kept)
    edited.update({key: value for key, value in copied.items() if key in edited})


def _layer_fields(section: DecoderSection) -> Iterator[str]:
    family = section.decoder
    yield from ("layer_types", "mlp_layer_types")
    for fields in (family.lists, family.indices, family.leading, family.periodic):
        yield from fields


def _edit_dtypes(content: dict[str, Any], dtype: str) -> None:
    for key, value in content.items():
        if key in _DTYPES and isinstance(value, str):
            if value.removeprefix("torch.") in _KNOWN_DTYPES:
                content[key] = dtype
        elif isinstance(value, dict):
            _edit_dtypes(value, dtype)


def _changes(before: dict[str, Any], after: dict[str, Any], prefix: str) -> Iterator[ConfigChange]:
    for key in {**before, **after}:
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _changes(old, new, f"{prefix}{key}.")
        elif old != new:
            yield ConfigChange(prefix + key, old, new)


def _in_words(value: Any) -> str:
    if value is None:
        return "none"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if len(text) <= _LONGEST:
        return text or "none"
    return f"{len(value)} values" if isinstance(value, list) else f"{text[: _LONGEST - 3]}..."
