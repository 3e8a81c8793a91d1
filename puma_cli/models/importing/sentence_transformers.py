"""Folders of sentence-transformers: modules, prompts and what is done to a text before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from puma_cli.checkpoint import layout
from puma_cli.checkpoint.json_object import read_object
from puma_cli.errors import CheckpointError
from puma_cli.models.embedder_settings import (
    FIRST,
    LAST,
    MEAN,
    SYSTEM,
    EmbedderSettings,
    decoder_width,
    pixel_limits,
)
from puma_cli.models.family_names import EMBEDS, TEXT
from puma_cli.models.importing.chat import added_tokens, last_token, literal, own_template
from puma_cli.models.importing.prompts import Prompts, read_prompts

TRANSFORMER_CONFIG: Final = "sentence_bert_config.json"
_POOLINGS: Final = {"lasttoken": LAST, "mean": MEAN, "cls": FIRST}
# How a module's configuration said it before there was one key for it.
_LEGACY: Final = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# A text is given as it is, with the prompt, which is the system's turn here, right before it.
_PLAIN: Final = (
    "{%- for message in messages -%}"
    "{%- if message.content is string -%}{{- message.content -}}"
    "{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'text' -%}{{- part.text -}}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}"
    "{%- endfor -%}"
)


def module_settings(folder: Path) -> EmbedderSettings:
    """Return how a folder with a `modules.json` embeds.

    Raises:
        CheckpointError: a module or a setting of one is unknown, or does what puma cannot do.
    """
    modules = _read_modules(folder)
    config = read_object(folder / layout.CONFIG)
    if config.get("model_type") not in EMBEDS:
        raise CheckpointError(
            f"{folder} is of the architecture `{config.get('model_type')}`, which puma does not "
            "embed with.",
            hint=f"This version reads {', '.join(sorted(EMBEDS))}.",
        )
    pooling = _pooling(folder, modules)
    width, head = decoder_width(config), modules.get("Dense")
    dimension = width
    if head is not None:
        dimension = _dense_outputs(folder, head)
    transformer = _optional(folder / TRANSFORMER_CONFIG)
    prompts = read_prompts(folder)
    sees = config["model_type"] not in TEXT
    modalities = transformer.get("modality_config") or {}
    if not isinstance(modalities, dict):
        raise CheckpointError(
            f"{folder / TRANSFORMER_CONFIG} has a modality_config that names no modalities.",
            hint="Download or copy the checkpoint again.",
        )
    asked_in_turns = "message" in modalities
    if sees and not asked_in_turns:
        raise CheckpointError(
            f"{folder} sees images, but is not asked in turns.",
            cause=f"The modality_config of {TRANSFORMER_CONFIG} has no `message`.",
            hint="Export it again with sentence-transformers 5.4 or newer.",
        )
    template, ends = _template(folder, transformer, prompts, asked_in_turns, sees)
    low, high = pixel_limits(folder) if sees else (0, 0)
    return EmbedderSettings(
        template=template,
        embed_token=ends,
        dimension=dimension,
        min_pixels=low,
        max_pixels=high,
        instruction=SYSTEM,
        pooling=pooling,
        normalize="Normalize" in modules,
        max_text_tokens=_longest(folder, config, transformer),
        head=head,
        default_instruction=prompts.default,
        query_instruction=prompts.query,
    )


def _read_modules(folder: Path) -> dict[str, str]:
    """Return the folder of each module by its kind.

    Raises:
        CheckpointError: `modules.json` is broken, or names what puma does not know.
    """
    path = folder / layout.LAYOUT.modules
    try:
        entries = [
            (str(each["type"]), str(each["path"]))
            for each in json.loads(path.read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is no list of modules.",
            cause=f"{type(error).__name__}: {error}.",
            hint="Download or copy the checkpoint again.",
        ) from error
    found: dict[str, str] = {}
    for full, place in entries:
        package, _, kind = full.rpartition(".")
        if package.partition(".")[0] != "sentence_transformers":
            raise CheckpointError(
                f"{path} names the module {full}, which is code of its own.",
                cause="puma runs no code of a checkpoint.",
            )
        if kind not in ("Transformer", "Pooling", "Dense", "Normalize"):
            raise CheckpointError(
                f"{path} names the module {full}, which puma does not know.",
                hint="Known are Transformer, Pooling, Dense and Normalize.",
            )
        if kind in found:
            raise CheckpointError(f"{path} names the module {full} twice, which puma cannot do.")
        found[kind] = place
    order = [kind for kind in ("Transformer", "Pooling", "Dense", "Normalize") if kind in found]
    if list(found) != order or order[:2] != ["Transformer", "Pooling"]:
        raise CheckpointError(
            f"{path} has its modules in the order {', '.join(found) or '(none)'}.",
            cause="puma reads Transformer, Pooling, then Dense and Normalize where they are.",
        )
    if found["Transformer"] not in ("", "."):
        raise CheckpointError(
            f"{path} has the model itself in {found['Transformer']}.",
            hint="Move its files to the top, and write an empty path.",
        )
    return found


def _pooling(folder: Path, modules: Mapping[str, str]) -> str:
    path = folder / modules["Pooling"] / "config.json"
    content = read_object(path)
    modes = content.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _LEGACY.items() if content.get(key)] or ["mean"]
    modes = modes if isinstance(modes, list) else [modes]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise CheckpointError(
            f"{path} asks for the pooling {' and '.join(map(str, modes))}.",
            hint=f"puma reads {', '.join(_POOLINGS)}, one of them.",
        )
    found = _POOLINGS[modes[0]]
    if found in (MEAN, FIRST) and content.get("include_prompt") is False:
        raise CheckpointError(
            f"{path} leaves the prompt out of the pooling (include_prompt), which puma cannot do."
        )
    return found


def _dense_outputs(folder: Path, name: str) -> int:
    """Return the length of what a Dense module makes, if it is a linear map and no more."""
    path = folder / name / "config.json"
    content = read_object(path)
    activation = str(content.get("activation_function") or "Identity")
    if activation.rpartition(".")[2] != "Identity":
        raise CheckpointError(
            f"{path} has the activation {activation}.",
            cause="puma has linear heads alone.",
        )
    if content.get("use_residual"):
        raise CheckpointError(f"{path} adds what goes in (use_residual), which puma cannot do.")
    for key in ("module_input_name", "module_output_name"):
        if content.get(key) not in (None, "sentence_embedding"):
            raise CheckpointError(
                f"{path} has {key} {content[key]!r}.",
                cause="puma maps the pooled embedding alone.",
            )
    outputs = content.get("out_features")
    if not isinstance(outputs, int) or outputs < 1:
        raise CheckpointError(
            f"{path} has out_features {outputs!r}.",
            cause="It is the length of the embeddings.",
            hint="Download or copy the checkpoint again.",
        )
    return outputs


def _template(
    folder: Path, transformer: Mapping[str, Any], prompts: Prompts, turns: bool, sees: bool
) -> tuple[str, str]:
    """Return the template of a folder and the token that it ends on, empty if that may be any."""
    before, behind = added_tokens(folder)
    if not turns:
        # A tokenizer's own tokens become part of the template.
        if prompts.wraps:
            head, tail = prompts.wraps
            template = _wrapped(head, tail)
        else:
            template = _PLAIN
        template = literal("".join(before)) + template + literal("".join(behind))
        return template, behind[-1] if behind else ""
    own = own_template(folder)
    if own is None:
        raise CheckpointError(
            f"{folder} is asked in turns and has no chat template.",
            cause=f"{TRANSFORMER_CONFIG} lists `message`; {layout.CHAT_TEMPLATE} is missing.",
        )
    asked = transformer.get("processing_kwargs") or {}
    asked = (asked.get("chat_template") or {}) if isinstance(asked, dict) else None
    if not isinstance(asked, dict):
        raise CheckpointError(
            f"{folder / TRANSFORMER_CONFIG} has processing_kwargs that are no settings by name.",
            hint="Download or copy the checkpoint again.",
        )
    values = {key: value for key, value in asked.items() if key != "restore_suffix"}
    # What is handed to a template there is written into it here.
    preset = "".join(f"{{%- set {key} = {_jinja(value)} -%}}" for key, value in values.items())
    # A tokenizer adds its own tokens only as part of a processor.
    ends = behind if sees else []
    # Jinja itself drops the one line break at the end of a template.
    template = preset + own.removesuffix("\n") + literal("".join(ends))
    return template, ends[-1] if ends else _rendered_end(folder, template)


def _wrapped(head: str, tail: str) -> str:
    """Return a template that puts an instruction between two texts, before what is asked."""
    return (
        "{%- for message in messages -%}"
        "{%- set system = message.role == 'system' -%}"
        f"{{%- if system -%}}{literal(head)}{{%- endif -%}}"
        "{%- if message.content is string -%}{{- message.content -}}"
        "{%- else -%}{%- for part in message.content -%}"
        "{%- if part.type == 'text' -%}{{- part.text -}}{%- endif -%}"
        "{%- endfor -%}{%- endif -%}"
        f"{{%- if system -%}}{literal(tail)}{{%- endif -%}}"
        "{%- endfor -%}"
    )


def _jinja(value: object) -> str:
    return "none" if value is None else json.dumps(value)


def _rendered_end(folder: Path, template: str) -> str:
    """Return the last token of what a template writes, or an empty string if a text ends it."""
    from transformers.utils.chat_template_utils import render_jinja_template

    ends = set()
    for text in ("a", "zebra?"):
        message = {"role": "user", "content": [{"type": "text", "text": text}]}
        try:
            # In a sandbox, as ever.
            found: Any = render_jinja_template([[message]], chat_template=template)
        except Exception as error:  # whatever Jinja makes of it
            raise CheckpointError(
                f"The chat template of {folder} cannot be used.",
                cause=f"{type(error).__name__}: {error}",
            ) from error
        ends.add(last_token(folder, found[0][0]))
    return ends.pop() if len(ends) == 1 else ""


def _longest(folder: Path, config: Mapping[str, Any], transformer: Mapping[str, Any]) -> int:
    """Return how many tokens of a text are read."""
    text = config.get("text_config") or config
    limits = [
        transformer.get("max_seq_length"),
        _optional(folder / layout.LAYOUT.tokenizer_config).get("model_max_length"),
        text.get("max_position_embeddings"),
    ]
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and limit > 0]
    before, behind = added_tokens(folder)
    return max(1, min(known, default=8192) - len(before) - len(behind))


def _optional(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}
