"""The public function `prune`: a checkpoint with fewer decoder layers, proven before it appears."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from puma_cli.checkpoint.fingerprint import identify
from puma_cli.checkpoint.output_folder import check_free, check_space, new_folder
from puma_cli.checkpoint.provenance import Parent, describe, to_plain, write_provenance
from puma_cli.checkpoint.source import Source, open_source
from puma_cli.config.amounts import parse_size
from puma_cli.config.legal import check_settings
from puma_cli.config.settings import PruneSettings
from puma_cli.errors import ConfigError
from puma_cli.models.embedder_settings import drop_head
from puma_cli.progress import SILENT, Reporter
from puma_cli.pruning.card import write_cut_card
from puma_cli.pruning.choice import check_choice, choose_layers, profile_parent
from puma_cli.pruning.planning.plan import PrunePlan, make_plan
from puma_cli.pruning.writing.output_files import bytes_to_write, output_files
from puma_cli.pruning.writing.side_files import (
    check_embeds,
    copy_side_files,
    write_embedder_files,
)
from puma_cli.pruning.writing.truncate import write_weights
from puma_cli.report.numbers import size_on_disk

if TYPE_CHECKING:
    from puma_cli.data.mbeir import MbeirFolder
    from puma_cli.profiling.bridges.bridge import Bridge
    from puma_cli.pruning.proof.parity import Parity


@dataclass(frozen=True)
class PruneResult:
    """What `prune` did.

    Args:
        folder: the cut checkpoint, or None after a dry run.
        plan: what was cut.
        verified: how far the result was checked: `full`, `keys` or `none`.
        parity: the comparison with the parent, if it was made.
        bridge: the head that was fitted, if one was asked for.
        embeds: whether puma can embed with the model; False after a dry run.
    """

    folder: Path | None
    plan: PrunePlan
    verified: str = "none"
    parity: Parity | None = None
    bridge: Bridge | None = None
    embeds: bool = False


def prune(settings: PruneSettings, reporter: Reporter = SILENT) -> PruneResult:
    """Write a checkpoint that keeps some decoder layers of a model and everything else of it.

    The folder opens with stock transformers; its output is the parent's `norm(h[k])`.

    Raises:
        ConfigError: the layers to keep are not said exactly once, or cannot be kept; settings do
            not fit one another.
        CheckpointError: the model is broken or cannot be cut safely.
        DataError: the data set for the bridge is broken or too small.
        OutputError: the output folder is taken, holds the model, or cannot be written.
        VerificationError: the result would not compute what the parent does; nothing is left.
    """
    check_settings(settings)
    check_choice(settings)
    _check_bridge(settings)
    shard_bytes = None if settings.shard_size is None else parse_size(settings.shard_size)
    if not settings.dry_run:
        check_free(settings.output_dir, settings.overwrite)
    source = open_source(settings.model, reporter)
    data = _bridge_data(settings, source) if settings.bridge else None
    kept, profiles = choose_layers(settings, source, reporter)
    plan = make_plan(
        source.folder, kept, tensors=source.tensors, head=settings.head, dtype=settings.dtype
    )
    files = output_files(plan.moves, shard_bytes)
    ready = None
    if settings.bridge_from is not None:
        ready, profile = _ready_bridge(settings, source, plan, reporter)
        profiles = tuple(dict.fromkeys((*profiles, profile)))
    if settings.dry_run:
        return PruneResult(None, plan)
    check_space(settings.output_dir, bytes_to_write(files, settings.link))
    # A bridge is fitted to the whole parent; everything else needs the kept layers only.
    source.fetch(source.files if settings.bridge else plan.files, reporter)
    model = Parent("model", str(settings.model), source.fingerprint(settings.full_hash))
    parents = [model, *profiles]
    inputs = [source.folder, *(Path(profile.name) for profile in profiles)]
    if data is not None:
        found = identify(data.root, settings.full_hash)
        parents.append(Parent("data", str(settings.data), found))
        inputs.append(data.root)
    with new_folder(settings.output_dir, settings.overwrite, inputs) as folder:
        copy_side_files(source.folder, folder, reporter)
        embeds = write_embedder_files(source.folder, folder, reporter)
        write_weights(plan, folder, reporter, shard_bytes=shard_bytes, link=settings.link)
        drop_head(folder)
        verified, parity = _verify(settings, source, folder, plan, reporter)
        bridge = _bridge(settings, source, data, folder, plan, ready, reporter)
        results = {
            **plan.summary(),
            "verified": verified,
            "parity": asdict(parity) if parity else None,
            "bridge": to_plain(bridge.fit) if bridge else None,
        }
        write_provenance(
            folder, describe("prune", settings, parents, kept_layers=plan.kept, results=results)
        )
        title = Path(settings.output_dir).name
        write_cut_card(
            folder, title, source, plan, model, parity=parity, bridge=bridge, embeds=embeds
        )
    return PruneResult(Path(settings.output_dir), plan, verified, parity, bridge, embeds)


def _check_bridge(settings: PruneSettings) -> None:
    if settings.bridge and settings.bridge_from is not None:
        raise ConfigError(
            "The bridge is asked for twice: --bridge fits one, --bridge-from takes a fitted one.",
            hint="Give one of the two.",
        )
    if settings.bridge and settings.data is None:
        raise ConfigError(
            "A bridge is fitted on data, and none are given.", hint="Name a data set with --data."
        )
    if settings.data is not None and not settings.bridge:
        raise ConfigError(
            f"The data `{settings.data}` are given, but nothing uses them.",
            hint="Add --bridge, or leave --data away.",
        )


def _bridge_data(settings: PruneSettings, source: Source) -> MbeirFolder:
    """Return the data for a bridge, after what would else fail when all weights are written."""
    from puma_cli.data.mbeir import MbeirFolder

    check_embeds(source.folder)
    data = MbeirFolder(Path(str(settings.data)))
    data.train_files()
    return data


def _verify(
    settings: PruneSettings, source: Source, folder: Path, plan: PrunePlan, reporter: Reporter
) -> tuple[str, Parity | None]:
    """Check the written folder as far as was asked; return how far that was."""
    if settings.verify == "none":
        return "none", None
    from puma_cli.pruning.proof.key_check import check_keys
    from puma_cli.pruning.proof.parity import check_parity, fits_memory, memory_needed

    check_keys(folder, parent=source.folder, trust_remote_code=settings.trust_remote_code)
    if settings.verify == "keys":
        return "keys", None
    needed = memory_needed(folder)
    if settings.verify == "auto" and not fits_memory(needed):
        reporter.note(
            f"Not compared with its parent: that takes {size_on_disk(needed)} of memory, more than "
            "is free. Its names and shapes are right; --verify full compares all the same."
        )
        return "keys", None
    reporter.note("Comparing the cut model with its parent.")
    parity = check_parity(
        source.folder,
        folder,
        plan.kept,
        device=settings.device,
        trust_remote_code=settings.trust_remote_code,
    )
    return "full", parity


def _ready_bridge(
    settings: PruneSettings, source: Source, plan: PrunePlan, reporter: Reporter
) -> tuple[Bridge, Parent]:
    """Return the bridge that an analysis of the model has fitted for this cut, and its folder."""
    from puma_cli.profiling.bridges.bridge_file import read_bridge
    from puma_cli.profiling.profile import read_profile

    check_embeds(source.folder)
    folder = Path(str(settings.bridge_from))
    profile = read_profile(folder)
    parent = profile_parent(folder, settings, source, reporter)
    return read_bridge(folder, plan.kept, plan.depth, profile.bridges), parent


def _bridge(
    settings: PruneSettings,
    source: Source,
    data: MbeirFolder | None,
    folder: Path,
    plan: PrunePlan,
    ready: Bridge | None,
    reporter: Reporter,
) -> Bridge | None:
    if data is None and ready is None:
        return None
    from puma_cli.pruning.bridge import fit_bridge, write_bridge

    bridge = ready
    if bridge is None:
        assert data is not None
        bridge = fit_bridge(
            source.folder,
            plan.kept,
            data,
            rows=settings.bridge_rows,
            seed=settings.seed,
            batch_size=settings.batch_size,
            device=settings.device,
            reporter=reporter,
        )
    write_bridge(bridge, folder)
    return bridge
