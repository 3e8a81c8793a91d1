"""The public function `export`: a model in the formats of other loaders, proven to be the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from puma_cli.checkpoint.output_folder import check_free, check_space, new_folder, write_json
from puma_cli.checkpoint.provenance import describe, write_provenance
from puma_cli.checkpoint.source import resolve
from puma_cli.config.amounts import parse_size
from puma_cli.config.legal import check_settings
from puma_cli.config.settings import ExportSettings
from puma_cli.exporting.card import write_export_card
from puma_cli.exporting.format_files import write_format
from puma_cli.exporting.formats import ALL, FORMATS, LOADERS, PARITY, VLLM
from puma_cli.exporting.hub import check_name, push
from puma_cli.exporting.outgoing import Outgoing, open_outgoing, parse_prompts
from puma_cli.exporting.parity.check import ExportParity, check_export
from puma_cli.exporting.parity.reference import reference
from puma_cli.exporting.weights import plan_weights
from puma_cli.progress import SILENT, Reporter
from puma_cli.pruning.planning.plan import PrunePlan
from puma_cli.pruning.writing.output_files import bytes_to_write, output_files


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
    if settings.push_to_hub is not None:
        check_name(settings.push_to_hub)
    check_free(settings.output_dir, settings.overwrite)
    model = open_outgoing(settings, prompts, resolve(settings.model, reporter))
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
            write_format(model, plans[name], name, folder, shard_bytes, reporter)
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


def _verify(
    model: Outgoing,
    folders: Mapping[str, Path],
    settings: ExportSettings,
    reporter: Reporter,
) -> dict[str, tuple[ExportParity, ...]]:
    """Open every format with its loaders and compare."""
    embedder = reference(model.folder, settings.dtype, model.head)
    found = {}
    for name, folder in folders.items():
        checks = []
        for loader in LOADERS[name]:
            reporter.note(f"Opening {name} with {loader} in a process of its own.")
            checks.append(check_export(folder, embedder, loader))
        found[name] = tuple(checks)
    return found


def _finish(
    model: Outgoing,
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
