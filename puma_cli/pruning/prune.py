"""The public function `prune`: a checkpoint with fewer decoder layers, proven before it appears."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from puma_cli.checkpoint.card import inherited_metadata, write_card
from puma_cli.checkpoint.fingerprint import identify, is_unchanged
from puma_cli.checkpoint.inspection import say_layers
from puma_cli.checkpoint.output_folder import check_free, new_folder
from puma_cli.checkpoint.provenance import Parent, describe, read_provenance, write_provenance
from puma_cli.checkpoint.source import resolve
from puma_cli.config.legal import check_settings
from puma_cli.config.settings import PruneSettings
from puma_cli.errors import ConfigError
from puma_cli.progress import SILENT, Reporter
from puma_cli.pruning.layers import first_layers, parse_layers
from puma_cli.pruning.plan import PrunePlan, depth_of, make_plan
from puma_cli.pruning.side_files import copy_side_files, write_embedder_files
from puma_cli.pruning.truncate import write_weights
from puma_cli.pruning.verify import Parity, check_keys, check_parity
from puma_cli.report.numbers import count, size_on_disk


@dataclass(frozen=True)
class PruneResult:
    """What `prune` did.

    Args:
        folder: the cut checkpoint, or None after a dry run.
        plan: what was cut.
        parity: the proof, or None if it was not asked for.
    """

    folder: Path | None
    plan: PrunePlan
    parity: Parity | None = None


def prune(settings: PruneSettings, reporter: Reporter = SILENT) -> PruneResult:
    """Write a checkpoint that keeps some decoder layers of a model and everything else of it.

    The folder opens with stock transformers; its output is the parent's `norm(h[k])`.

    Raises:
        ConfigError: not exactly one of `keep`, `layers` and `profile`, or layers out of range.
        CheckpointError: the model is broken or cannot be cut safely.
        OutputError: the output folder is taken, holds the model, or cannot be written.
        VerificationError: the result would not compute what the parent does; nothing is left.
    """
    check_settings(settings)
    _check_choice(settings)
    if not settings.dry_run:
        check_free(settings.output_dir, settings.overwrite)
    parent = resolve(settings.model, reporter)
    parents = [Parent("model", str(settings.model), identify(parent, settings.full_hash))]
    plan = make_plan(parent, _kept_layers(settings, parent, parents))
    if settings.dry_run:
        return PruneResult(None, plan)
    parity = None
    inputs = [parent] if settings.profile is None else [parent, settings.profile]
    with new_folder(settings.output_dir, settings.overwrite, inputs) as folder:
        copy_side_files(parent, folder)
        write_embedder_files(parent, folder)
        write_weights(plan, folder, reporter)
        if settings.verify != "none":
            check_keys(folder)
        if settings.verify in ("auto", "full"):
            reporter.note("Comparing the cut model with its parent.")
            parity = check_parity(parent, folder, plan.kept, settings.device)
        _write_history(folder, settings, plan, parents, parity)
    return PruneResult(Path(settings.output_dir), plan, parity)


def _check_choice(settings: PruneSettings) -> None:
    given = [name for name in ("keep", "layers", "profile") if getattr(settings, name) is not None]
    if len(given) != 1:
        raise ConfigError(
            "Nothing says which layers to keep."
            if not given
            else f"The layers to keep are given twice: by {' and by '.join(given)}.",
            hint="Give exactly one of --keep K, --layers LIST and --profile P.",
        )


def _kept_layers(settings: PruneSettings, model: Path, parents: list[Parent]) -> tuple[int, ...]:
    """Return the layers that the settings ask for; a profile becomes a parent too."""
    if settings.layers is not None:
        return parse_layers(settings.layers)
    depth = depth_of(model)
    if settings.keep is not None:
        return first_layers(settings.keep, depth)
    from puma_cli.profiling.profile import read_profile

    parents.append(_profile_parent(settings, model))
    return first_layers(read_profile(parents[-1].name).recommended, depth)


def _profile_parent(settings: PruneSettings, model: Path) -> Parent:
    """Return the profile as a parent, if it is a profile of `model`."""
    folder = Path(str(settings.profile))
    provenance = read_provenance(folder) if folder.is_dir() else None
    for parent in provenance.parents if provenance else ():
        if parent.role == "model" and not is_unchanged(model, parent.fingerprint):
            raise ConfigError(
                f"The profile `{folder}` is not of the model `{settings.model}`.",
                cause=f"It was made from `{parent.name}`, whose fingerprint is another.",
                hint="Analyze this model first, or say with --keep how many layers to keep.",
            )
    found = identify(folder, settings.full_hash) if folder.is_dir() else ""
    return Parent("profile", str(folder), found)


def _write_history(
    folder: Path,
    settings: PruneSettings,
    plan: PrunePlan,
    parents: list[Parent],
    parity: Parity | None,
) -> None:
    results = {**plan.summary(), "parity": asdict(parity) if parity else None}
    write_provenance(
        folder, describe("prune", settings, parents, kept_layers=plan.kept, results=results)
    )
    before, after = plan.parameters
    facts = [
        ("parent", str(settings.model)),
        ("parent's fingerprint", parents[0].fingerprint),
        ("kept decoder layers", f"{say_layers(list(plan.kept))} of {plan.depth}"),
        ("parameters", f"{count(after)} (parent: {count(before)})"),
        (
            "weights",
            f"{size_on_disk(plan.bytes_after)} (parent: {size_on_disk(plan.bytes_before)})",
        ),
    ]
    if parity:
        facts.append(("difference from the parent", f"{parity.difference:.1e}, {parity.reference}"))
    write_card(
        folder,
        Path(settings.output_dir).name,
        summary=f"The model {settings.model} with {len(plan.kept)} of its {plan.depth} decoder "
        "layers, cut by puma and not trained since. Vision tower, token embeddings and final norm "
        "are the parent's; an LM head, if it had one of its own, is left out. Retrieval with it is "
        "weak until it is trained with `puma distill`.",
        facts=facts,
        metadata=inherited_metadata(plan.folder),
    )
