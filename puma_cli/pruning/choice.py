"""Which layers a user asked to keep, however they said it."""

from __future__ import annotations

from pathlib import Path

from puma_cli.checkpoint.fingerprint import COMMIT, identify, is_unchanged
from puma_cli.checkpoint.provenance import Parent, read_provenance
from puma_cli.checkpoint.source import Source
from puma_cli.config.amounts import parse_count, parse_size
from puma_cli.config.layers import first_layers, keep_last_layers, parse_layers
from puma_cli.config.settings import PruneSettings
from puma_cli.errors import ConfigError
from puma_cli.progress import SILENT, Reporter
from puma_cli.pruning.planning.budget import largest_within
from puma_cli.pruning.planning.plan import depth_of

WAYS = ("keep", "layers", "profile", "parameters", "size")


def check_choice(settings: PruneSettings) -> None:
    """Raise ConfigError unless the settings say exactly once which layers to keep."""
    given = [name for name in WAYS if getattr(settings, name) is not None]
    if len(given) != 1:
        raise ConfigError(
            "Nothing says which layers to keep."
            if not given
            else f"The layers to keep are given twice: by {' and by '.join(given)}.",
            hint="Give exactly one of --keep K, --layers LIST, --profile DIR, --parameters N and "
            "--size BYTES.",
        )
    if settings.keep_last and given[0] in ("layers", "profile"):
        raise ConfigError(
            f"--keep-last does not go with --{given[0]}.",
            cause="A list names every layer itself."
            if given[0] == "layers"
            else "A profile says itself whether the last layer stays.",
            hint="Give --keep K --keep-last, or a list such as --layers 0-2,11.",
        )


def choose_layers(
    settings: PruneSettings, source: Source, reporter: Reporter = SILENT
) -> tuple[tuple[int, ...], tuple[Parent, ...]]:
    """Return the layers that the settings ask for, and the profile that says so, if one does.

    Raises:
        CheckpointError: the checkpoint is broken or cannot be cut so; there is no such profile.
        ConfigError: the layers are out of range, the budget is too small, or the profile is of
            another model.
    """
    if settings.layers is not None:
        return parse_layers(settings.layers), ()
    if settings.parameters is not None or settings.size is not None:
        layers = largest_within(
            source.folder,
            tensors=source.tensors,
            parameters=None if settings.parameters is None else parse_count(settings.parameters),
            size=None if settings.size is None else parse_size(settings.size),
            keep_last=settings.keep_last,
            head=settings.head,
            dtype=settings.dtype,
        )
        return layers, ()
    depth = depth_of(source.folder, source.tensors)
    if settings.keep is not None:
        choose = keep_last_layers if settings.keep_last else first_layers
        return choose(settings.keep, depth), ()
    from puma_cli.profiling.profile import read_profile

    profile = profile_parent(Path(str(settings.profile)), settings, source, reporter)
    return read_profile(profile.name).layers, (profile,)


def profile_parent(
    folder: Path, settings: PruneSettings, source: Source, reporter: Reporter = SILENT
) -> Parent:
    """Return the profile in `folder` as a parent of the cut.

    Raises:
        ConfigError: it is a profile of another model.
    """
    provenance = read_provenance(folder) if folder.is_dir() else None
    for parent in provenance.parents if provenance else ():
        if parent.role == "model" and not _is(source, parent.fingerprint, reporter):
            raise ConfigError(
                f"The profile `{folder}` is not of the model `{settings.model}`.",
                cause=f"It was made from `{parent.name}`, whose fingerprint is another.",
                hint="Analyze this model first, or say with --keep how many layers to keep.",
            )
    found = identify(folder, settings.full_hash) if folder.is_dir() else ""
    return Parent("profile", str(folder), found)


def _is(source: Source, recorded: str, reporter: Reporter) -> bool:
    if not recorded.startswith(f"{COMMIT}:"):
        # Profiled whole, a hub model can only be compared whole.
        source.fetch(source.files, reporter)
    return is_unchanged(source.folder, recorded)
