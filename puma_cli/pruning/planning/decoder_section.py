"""Where a config describes the decoder, and which architecture's facts hold for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from puma_cli.errors import CheckpointError
from puma_cli.pruning.planning.families import FAMILIES, SHARED_KEYS, WIDE_INPUTS, Family
from puma_cli.pruning.planning.layer_fields import DEPTH

FURTHER: Final = "num_nextn_predict_layers"
_TEXT: Final = "text_config"
# Where models that puma does not know by name have the same section.
_SECTIONS: Final = ((_TEXT,), ("llm_config",), ("language_config",), ("vlm_config", _TEXT))
_TWO_STACKS: Final = ("is_encoder_decoder", "decoder_layers", "encoder_layers")
_UNKNOWN: Final = "puma does not know how layers of the architecture `{}` differ"
# What the fields of architectures that puma does not know by name mean wherever they are used.
_GENERAL: Final = Family(
    indices={
        "mlp_only_layers": (),
        "moe_layers": (),
        "full_attn_idxs": (),
        "attn_layer_indices": (),
        "global_attn_layers": (),
        "local_layer_ids": (),
    },
    leading={"first_k_dense_replace": 0, "num_dense_layers": 0},
    zero={
        "num_kv_shared_layers": (0, SHARED_KEYS),
        "hidden_size_per_layer_input": (0, WIDE_INPUTS),
    },
)
_DEPTH_SCALED: Final = ("scale_depth", "residual_multiplier_by_depth")
# Lists that have nothing to do with layers, however long they happen to be.
_OF_TOKENS: Final = ("_token_id", "_token_ids", "_token_index", "token_id", "token_ids")
_NEVER_LAYERS: Final = frozenset(
    {"architectures", "bad_words_ids", "image_grid_pinpoints", "mrope_section", "image_size"}
)
_LAYERLIKE: Final = ("layer", "_idx", "indices", "indexes", "block_id", "_types", "pattern")


@dataclass(frozen=True)
class DecoderSection:
    """The part of a raw config that describes the decoder.

    Args:
        model_type: the checkpoint's architecture.
        path: keys that lead to the section from the config's root; none for the root itself.
        whole: facts of the whole model's architecture.
        decoder: facts of the decoder's architecture; `whole` itself for a text model.
        known: whether puma knows the whole model's architecture by name.
        depth: number of decoder layers L, as the config says.
    """

    model_type: str
    path: tuple[str, ...]
    whole: Family
    decoder: Family
    known: bool
    depth: int

    def of(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the section itself, which is a part of `config`."""
        for key in self.path:
            config = config[key]
        return config


def check_architecture(config: Mapping[str, Any], name: str) -> str:
    """Return the `model_type` of a raw config.

    Raises:
        CheckpointError: it has none, or is of an architecture that cannot be cut.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise CheckpointError(
            f"The config.json of `{name}` names no architecture: its model_type is `{model_type}`.",
            hint="Download or copy the checkpoint again.",
        )
    _refuse(FAMILIES.get(model_type), model_type, name)
    return model_type


def find_section(config: Mapping[str, Any], stacked: int, name: str) -> DecoderSection:
    """Return where `config` describes a decoder.

    Args:
        config: the raw config.json.
        stacked: number of layers that the weights have. Further ones than the config says are
            those that predict further tokens, if the config says that there are such.
        name: what to call the checkpoint in messages.

    Raises:
        CheckpointError: the architecture cannot be cut, the config is broken, or it says another
            depth than the weights.
    """
    model_type = check_architecture(config, name)
    whole = FAMILIES.get(model_type)
    path = _path(config, whole, model_type)
    section = _at(config, path) or {}
    depth = _depth(section, stacked, name, known=whole is not None)
    decoder = _decoder_family(section, whole, model_type, depth, nested=bool(path))
    _refuse(decoder, model_type, name)
    return DecoderSection(model_type, path, whole or Family(), decoder, whole is not None, depth)


def _refuse(family: Family | None, model_type: str, name: str) -> None:
    if family is not None and family.refused:
        raise CheckpointError(
            f"`{name}` is of the architecture `{model_type}`, which cannot be cut safely.",
            cause=f"{family.refused[0].upper()}{family.refused[1:]}.",
        )


def _path(config: Mapping[str, Any], whole: Family | None, model_type: str) -> tuple[str, ...]:
    if whole is not None and not whole.text:
        return ()
    if isinstance(config.get(_TEXT), dict):
        return (_TEXT,)
    if whole is None:
        return next((path for path in _SECTIONS if _at(config, path) is not None), ())
    if whole.flat and config.get(_TEXT) is None:
        return ()
    raise CheckpointError(
        f"config.json of this `{model_type}` describes no text model: it has no {_TEXT}.",
        hint="Save the checkpoint again with transformers, which writes it.",
    )


def _at(config: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any] | None:
    """Return the object that a path of keys leads to, or None where there is none."""
    found: Any = config
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _decoder_family(
    section: Mapping[str, Any], whole: Family | None, model_type: str, depth: int, *, nested: bool
) -> Family:
    """Return the facts of the decoder that `section` describes."""
    if whole is not None and not whole.text:
        return whole
    inner = section.get("model_type") if nested else None
    if inner is not None and not isinstance(inner, str):
        raise CheckpointError(f"config.json has {_TEXT}.model_type = {inner!r}.")
    if whole is not None and (inner is None or inner == model_type):
        inner = whole.text
    known = FAMILIES.get(inner) if inner else None
    if known is None or known.text:
        return _general_family(section, inner or model_type, depth)
    # The text model is known, but not what the model around it does to its layers.
    return known if whole else replace(known, first_only=_UNKNOWN.format(model_type))


def _general_family(section: Mapping[str, Any], model_type: str, depth: int) -> Family:
    """Return what the fields of an unknown decoder say by their names and lengths.

    Raises:
        CheckpointError: they cannot be told with certainty.
    """
    for key in _DEPTH_SCALED:
        if section.get(key):
            raise _unsure(model_type, key, section[key], "scales its layers by their number")
    for key in _TWO_STACKS:
        if section.get(key):
            raise _unsure(model_type, key, section[key], "speaks of a second stack")
    if section.get("kv_source_layers"):
        raise _unsure(model_type, "kv_source_layers", "...", "shares keys and values")
    lists: dict[str, None] = {}
    for key, value in section.items():
        of_tokens = key.endswith(_OF_TOKENS) or key in _NEVER_LAYERS
        if not isinstance(value, list | dict) or not value or of_tokens or key in _GENERAL.indices:
            continue
        layerlike = any(part in key for part in _LAYERLIKE)
        if isinstance(value, dict):
            if key != "per_layer_config" and layerlike and any(k.isdecimal() for k in value):
                raise _unsure(model_type, key, value, "maps layers to something")
        elif len(value) == depth and layerlike:
            lists[key] = None
        elif layerlike or len(value) == depth:
            raise _unsure(model_type, key, value, "may belong to its layers")
    return replace(_GENERAL, lists=lists, first_only=_UNKNOWN.format(model_type))


def _depth(section: Mapping[str, Any], stacked: int, name: str, *, known: bool) -> int:
    """Return the decoder's depth, on which config and weights must agree."""
    stated = section.get(DEPTH)
    # Published configs leave out what is the default of their text model.
    if stated is None and known:
        return stacked
    if type(stated) is not int:
        raise CheckpointError(
            f"The config.json of `{name}` states no {DEPTH}, but `{stated}`.",
            hint="Download or copy the checkpoint again.",
        )
    further = section.get(FURTHER)
    if stated != stacked and not (
        type(further) is int and stated >= 1 and 0 < stacked - stated <= further
    ):
        raise CheckpointError(
            f"`{name}` holds {stacked} decoder layers, but its config.json says {stated}.",
            hint="Download or copy the checkpoint again.",
        )
    return stated


def _unsure(model_type: str, key: str, value: Any, what: str) -> CheckpointError:
    shown = repr(value)
    return CheckpointError(
        f"puma does not know the architecture `{model_type}` and cannot cut it safely.",
        cause=f"Its field {key} = {shown if len(shown) < 80 else shown[:77] + '...'} {what}.",
        hint="Please report it with the model's config.json.",
    )
