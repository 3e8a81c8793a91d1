"""What becomes of a language-modelling head, which an embedder never uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from puma_cli.checkpoint.decoder_keys import Decoder
from puma_cli.errors import ConfigError
from puma_cli.pruning.planning.decoder_section import DecoderSection

HEADS: Final = ("auto", "keep", "drop")
UNUSED: Final = "LM head: an embedder never uses it"
_WITH_HEAD: Final = re.compile(r"(\w+?)For(CausalLM|ConditionalGeneration)")


@dataclass(frozen=True)
class HeadChoice:
    """Whether a stored LM head goes.

    Args:
        reason: why it goes; empty where it stays.
        base: class that the checkpoint is of without it; empty where the class stays.
        note: why it stays although nobody asked for it; otherwise empty.
    """

    reason: str = ""
    base: str = ""
    note: str = ""


def choose_head(
    head: str, config: Mapping[str, Any], section: DecoderSection, decoder: Decoder
) -> HeadChoice:
    """Return what becomes of a head that is stored among the weights.

    A head that the config ties to the token embeddings goes without a trace: the loader makes it
    again. An untied one goes together with the class that needs it.

    Args:
        head: `auto` (goes wherever the rest can be opened without it), `keep` or `drop`.
        config: the parent's raw config.
        section: what is known of the architecture.
        decoder: where its layers lie on disk.

    Raises:
        ConfigError: `head` is none of these, or says `drop` where the head has to stay.
    """
    if head not in HEADS:
        raise ConfigError(f"head = {head!r} is unknown.", hint=f"Use one of {', '.join(HEADS)}.")
    if head == "keep":
        return HeadChoice()
    if _tied(config, section):
        return HeadChoice("copy of the token embeddings, to which the config ties it")
    base, obstacle = _base_class(config, section, decoder)
    if base:
        return HeadChoice(UNUSED, base)
    if head == "drop":
        raise ConfigError(
            "The LM head of this checkpoint cannot be dropped.",
            cause=f"{obstacle[0].upper()}{obstacle[1:]}.",
            hint="Leave --lm-head away, or give `--lm-head keep`.",
        )
    return HeadChoice(note=f"The LM head stays: {obstacle}.")


def _tied(config: Mapping[str, Any], section: DecoderSection) -> bool:
    """Tell whether the config says so itself; defaults differ and so decide nothing."""
    root = config.get("tie_word_embeddings")
    inner = section.of(dict(config)).get("tie_word_embeddings")
    return (inner if root is None else root) is True


def _base_class(
    config: Mapping[str, Any], section: DecoderSection, decoder: Decoder
) -> tuple[str, str]:
    """Return the class without a head, or why there is none."""
    if decoder.prefix in section.whole.head_for:
        return "", f"only the class with a head reads weights named `{decoder.prefix}...` whole"
    if section.whole.base:
        return section.whole.base, ""
    classes = config.get("architectures")
    names = classes if isinstance(classes, list) else []
    match = _WITH_HEAD.fullmatch(str(names[0])) if len(names) == 1 else None
    if section.known or match is None or "auto_map" in config:
        return "", f"`{section.model_type}` has no class without one that AutoModel opens"
    return f"{match[1]}Model", ""
