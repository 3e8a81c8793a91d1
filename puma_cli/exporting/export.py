"""The public function `export`: a model in the formats of other loaders, proven to be the same."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from puma_cli.checkpoint.fingerprint import identify
from puma_cli.checkpoint.json_object import read_object
from puma_cli.checkpoint.layout import CHAT_TEMPLATE, CONFIG, LAYOUT
from puma_cli.checkpoint.output_folder import (
    check_free,
    check_space,
    new_folder,
    write_json,
    write_text,
)
from puma_cli.checkpoint.provenance import Parent, describe, write_provenance
from puma_cli.checkpoint.source import resolve
from puma_cli.config.amounts import parse_size
from puma_cli.config.legal import check_settings
from puma_cli.config.settings import ExportSettings
from puma_cli.errors import ConfigError
from puma_cli.exporting.card import write_export_card
from puma_cli.exporting.hub import push
from puma_cli.exporting.parity.check import ExportParity, check_export
from puma_cli.exporting.sentence_transformers_files import write_modules
from puma_cli.exporting.template import exported_template
from puma_cli.exporting.weights import plan_weights
from puma_cli.models.devices import DTYPES
from puma_cli.models.embedder import Embedder
from puma_cli.models.embedder_settings import (
    EOS,
    EmbedderSettings,
    decoder_width,
    settings_for,
    write_embedder_settings,
)
from puma_cli.models.head import Head, read_head, write_head
from puma_cli.models.head_file import BRIDGE
from puma_cli.models.importing.chat import write_plain_tokenizer
from puma_cli.models.opening import load
from puma_cli.models.vision_attention import project_as_stock
from puma_cli.progress import SILENT, Reporter
from puma_cli.pruning.planning.plan import PrunePlan
from puma_cli.pruning.writing.output_files import bytes_to_write, output_files
from puma_cli.pruning.writing.side_files import copy_side_files, limit_pixels
from puma_cli.pruning.writing.truncate import write_weights

TRANSFORMERS, SENTENCE_TRANSFORMERS, VLLM = "transformers", "sentence-transformers", "vllm"
FORMATS = (TRANSFORMERS, SENTENCE_TRANSFORMERS, VLLM)
ALL = "all"
PARITY = "parity.json"
# Loaders that a format is opened with. vLLM needs a GPU; transformers finds its names too.
_LOADERS = {
    TRANSFORMERS: (TRANSFORMERS,),
    SENTENCE_TRANSFORMERS: (TRANSFORMERS, SENTENCE_TRANSFORMERS),
    VLLM: (TRANSFORMERS,),
}


@dataclass(frozen=True)
class ExportResult:
    """What `export` wrote.

    Args:
        folder: the output folder.
        folders: the folder of each format; `folder` itself if there is one.
        dimension: length of the embeddings.
        parity: the comparisons made of each format; empty if none was asked for.
        pushed: address of the commit on the hub, or an empty string.
    """

    folder: Path
    folders: Mapping[str, Path]
    dimension: int
    parity: Mapping[str, tuple[ExportParity, ...]]
    pushed: str = ""


@dataclass(frozen=True)
class _Exported:
    """A model on its way out."""

    folder: Path
    settings: EmbedderSettings
    width: int
    head: Head | None
    images: bool
    prompts: Mapping[str, str]
    parent: Parent


def export(settings: ExportSettings, reporter: Reporter = SILENT) -> ExportResult:
    """Write a model as folders that other loaders open, and compare their vectors with its own.

    Raises:
        CheckpointError: the model is broken, or cannot be written in the format.
        ConfigError: a setting has an illegal value, or does not fit the model.
        OutputError: the output folder is taken or cannot be written, or the hub refuses.
        VerificationError: a loader makes other vectors; nothing is left.
    """
    check_settings(settings)
    prompts = parse_prompts(settings.prompts)
    shard_bytes = None if settings.shard_size is None else parse_size(settings.shard_size)
    check_free(settings.output_dir, settings.overwrite)
    model = _open(settings, prompts, resolve(settings.model, reporter))
    formats = FORMATS if settings.format == ALL else (settings.format,)
    plans = {
        name: plan_weights(model.folder, settings.dtype, vllm=name == VLLM) for name in formats
    }
    needed = (bytes_to_write(output_files(plan.moves, shard_bytes)) for plan in plans.values())
    check_space(settings.output_dir, sum(needed))
    parity: dict[str, tuple[ExportParity, ...]] = {}
    with new_folder(settings.output_dir, settings.overwrite, [model.folder]) as draft:
        folders = _folders(draft, formats)
        for name, folder in folders.items():
            folder.mkdir(exist_ok=True)
            _write(model, plans[name], name, folder, shard_bytes, reporter)
        if settings.verify:
            parity = _verify(model, folders, settings, reporter)
        for name, folder in folders.items():
            _finish(model, plans[name], name, folder, parity.get(name, ()), settings)
        if len(formats) > 1:
            write_provenance(draft, describe("export", settings, (model.parent,)))
    root = Path(settings.output_dir)
    pushed = ""
    if settings.push_to_hub is not None:
        reporter.note(f"Uploading to {settings.push_to_hub}.")
        pushed = push(root, settings.push_to_hub, settings.private)
    return ExportResult(root, _folders(root, formats), model.settings.dimension, parity, pushed)


def _folders(root: Path, formats: Sequence[str]) -> dict[str, Path]:
    """Return the folder of each format: `root` itself if there is one."""
    return {name: root if len(formats) == 1 else root / name for name in formats}


def parse_prompts(given: tuple[str, ...]) -> dict[str, str]:
    """Return prompts by name, from `NAME=TEXT`.

    Raises:
        ConfigError: one has no name.
    """
    found = {}
    for each in given:
        name, sign, text = each.partition("=")
        if not sign or not name.strip():
            raise ConfigError(
                f"The prompt {each!r} has no name.",
                hint="Write NAME=TEXT, such as query='Find a picture of this.'",
            )
        found[name.strip()] = text
    return found


def _open(settings: ExportSettings, prompts: Mapping[str, str], folder: Path) -> _Exported:
    """Read everything of a model but its weights."""
    embedder = settings_for(folder)
    _check_pooling(embedder)
    if embedder.query_instruction is not None:
        prompts = {"query": embedder.query_instruction, **prompts}
    config = read_object(folder / CONFIG)
    width = decoder_width(config)
    head = None
    if embedder.head is not None:
        head = read_head(folder, embedder.head, width, embedder.dimension)
    if settings.dimensions is not None:
        if settings.dimensions > embedder.dimension:
            raise ConfigError(
                f"{settings.dimensions} dimensions were asked for, and the embeddings have "
                f"{embedder.dimension}.",
                hint="Ask for fewer, or leave --dimensions out.",
            )
        head = shortened(head, width, settings.dimensions)
    embedder = replace(
        embedder,
        head=None if head is None else BRIDGE,
        dimension=width if head is None else head.outputs,
    )
    return _Exported(
        folder,
        embedder,
        width,
        head,
        "vision_config" in config,
        prompts,
        Parent("model", settings.model, identify(folder, settings.full_hash)),
    )


def _check_pooling(embedder: EmbedderSettings) -> None:
    if embedder.pooling == EOS and not embedder.template.endswith(embedder.embed_token):
        raise ConfigError(
            f"The model is read at the last {embedder.embed_token}, and its prompts go on.",
            cause="No other loader reads in the middle of a prompt.",
            hint="Write a template that ends there into its embedder.json.",
        )


def shortened(head: Head | None, width: int, dimensions: int) -> Head:
    """Return the head that gives the first components of what `head`, or the model, gives.

    Args:
        head: maps states (..., D) to embeddings, or None where these are the same.
        width: D.
        dimensions: how many components.
    """
    weight = torch.eye(width) if head is None else head.weight
    bias = torch.zeros(width) if head is None else head.bias
    return Head(weight[:, :dimensions], bias[:dimensions])


def _write(
    model: _Exported,
    plan: PrunePlan,
    name: str,
    folder: Path,
    shard_bytes: int | None,
    reporter: Reporter,
) -> None:
    """Write a format's folder, but for its card and provenance."""
    copy_side_files(model.folder, folder, reporter)
    _drop_modules(folder)
    write_embedder_settings(model.settings, folder)
    if model.head is not None:
        write_head(model.head, folder / BRIDGE)
    if model.settings.sees:
        limit_pixels(folder, model.settings.image_size)
    write_plain_tokenizer(folder)
    _set_template(folder, exported_template(model.settings))
    write_weights(plan, folder, reporter, shard_bytes=shard_bytes)
    if name != TRANSFORMERS:
        write_modules(
            folder,
            model.settings,
            width=model.width,
            head=model.head,
            images=model.images,
            prompts=model.prompts,
        )


def _drop_modules(folder: Path) -> None:
    """Remove what an earlier export of the model was described by."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name.startswith(("modules.json", "sentence_bert", "config_sentence", PARITY)):
            path.unlink()


def _set_template(folder: Path, template: str) -> None:
    """Leave one chat template in a folder."""
    write_text(folder / CHAT_TEMPLATE, template)
    (folder / LAYOUT.old_chat_template).unlink(missing_ok=True)
    path = folder / LAYOUT.tokenizer_config
    if path.is_file():
        content = read_object(path)
        if content.pop("chat_template", None) is not None:
            write_json(path, content)


def _verify(
    model: _Exported,
    folders: Mapping[str, Path],
    settings: ExportSettings,
    reporter: Reporter,
) -> dict[str, tuple[ExportParity, ...]]:
    """Open every format with its loaders and compare."""
    embedder = reference(model.folder, settings.dtype, model.head)
    found = {}
    for name, folder in folders.items():
        checks = []
        for loader in _LOADERS[name]:
            reporter.note(f"Opening {name} with {loader} in a process of its own.")
            checks.append(check_export(folder, embedder, loader))
        found[name] = tuple(checks)
    return found


def reference(folder: Path, dtype: str, head: Head | None) -> Embedder:
    """Return the model in float32 with its weights rounded as an export in `dtype` has them."""
    embedder = load(folder, "cpu", "float32")
    embedder.head = head
    if hasattr(embedder.model, "visual"):
        # What is proven is the export, to the last digits: puma's own way to project patches is
        # faster, and rounds in another order.
        project_as_stock(embedder.model.visual)
    if dtype in DTYPES and dtype != "float32":
        with torch.no_grad():
            for weight in embedder.model.parameters():
                weight.copy_(weight.to(DTYPES[dtype]).float())
    return embedder


def _finish(
    model: _Exported,
    plan: PrunePlan,
    name: str,
    folder: Path,
    parity: tuple[ExportParity, ...],
    settings: ExportSettings,
) -> None:
    results: dict[str, Any] = {"format": name, "dimension": model.settings.dimension}
    if parity:
        checks = [{**asdict(check), "worst": check.worst} for check in parity]
        write_json(folder / PARITY, {"checks": checks})
        results["parity"] = {check.loader: check.unchecked or check.worst for check in parity}
    write_provenance(folder, describe("export", settings, (model.parent,), results=results))
    write_export_card(
        folder,
        Path(settings.output_dir).name,
        format_=name,
        model=model.parent.name,
        source=model.folder,
        settings=model.settings,
        depth=plan.depth,
        images=model.images,
        prompts=model.prompts,
        parity=parity,
    )
