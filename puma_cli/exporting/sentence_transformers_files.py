"""What makes a checkpoint a folder of sentence-transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from puma_cli.checkpoint.output_folder import write_json
from puma_cli.models.embedder_settings import EOS, FIRST, LAST, MEAN, EmbedderSettings
from puma_cli.models.head import Head

MODEL_CONFIG = "config_sentence_transformers.json"
TRANSFORMER_CONFIG = "sentence_bert_config.json"
# These names are known to releases from before and after the modules moved.
_MODULES = "sentence_transformers.models"
# Prompts end on the token that `eos` looks for.
_POOLINGS = {LAST: "lasttoken", EOS: "lasttoken", FIRST: "cls", MEAN: "mean"}
_FORWARD = {"method": "forward", "method_output_name": "last_hidden_state"}


def write_modules(
    folder: Path,
    settings: EmbedderSettings,
    *,
    width: int,
    head: Head | None,
    images: bool,
    prompts: Mapping[str, str],
) -> None:
    """Write the modules and their configurations into a checkpoint's folder.

    Args:
        width: length D of the model's states.
        head: what maps them to embeddings, or None.
        images: whether the model sees images.
        prompts: instructions by name.
    """
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    _write_transformer(folder, images)
    write_json(
        _made(folder / "1_Pooling") / "config.json",
        {
            "word_embedding_dimension": width,
            "pooling_mode": _POOLINGS[settings.pooling],
            "include_prompt": True,
        },
    )
    if head is not None:
        name = f"{len(modules)}_Dense"
        modules.append(("Dense", name))
        _write_dense(_made(folder / name), head, width)
    if settings.normalize:
        name = f"{len(modules)}_Normalize"
        modules.append(("Normalize", name))
        # Not empty: a hub keeps no folder without files.
        side = "sentence_embedding"
        write_json(
            _made(folder / name) / "config.json",
            {"module_input_name": side, "module_output_name": side},
        )
    entries = [
        {"idx": number, "name": str(number), "path": path, "type": f"{_MODULES}.{kind}"}
        for number, (kind, path) in enumerate(modules)
    ]
    write_json(folder / "modules.json", entries)
    write_json(
        folder / MODEL_CONFIG,
        {
            "model_type": "SentenceTransformer",
            "prompts": {"query": "", "document": "", **prompts},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )


def _write_transformer(folder: Path, images: bool) -> None:
    kinds = ("text", "image", "image+text") if images else ("text",)
    write_json(
        folder / TRANSFORMER_CONFIG,
        {
            "transformer_task": "feature-extraction",
            "modality_config": {
                **{kind: dict(_FORWARD) for kind in kinds},
                "message": {**_FORWARD, "format": "structured"},
            },
            "module_output_name": "token_embeddings",
            # Without flash attention padded inputs are the only way; with it, these architectures
            # have no way to be told where one input ends.
            "unpad_inputs": False,
        },
    )


def _write_dense(folder: Path, head: Head, width: int) -> None:
    write_json(
        folder / "config.json",
        {
            "in_features": width,
            "out_features": head.outputs,
            "bias": True,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    )
    weight = head.weight.detach().to(torch.float32).T.contiguous()
    bias = head.bias.detach().to(torch.float32).contiguous()
    save_file({"linear.weight": weight, "linear.bias": bias}, folder / "model.safetensors")


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder
