"""Whether two checkpoints put their vectors into one space, by what they were made from."""

from __future__ import annotations

from pathlib import Path

from puma_cli.checkpoint.fingerprint import fingerprint, is_unchanged
from puma_cli.checkpoint.provenance import Parent, read_provenance
from puma_cli.errors import ConfigError
from puma_cli.models.embedder_settings import settings_for

# What a result has of these parents: their weights, or what they taught it.
_MODELS = ("model", "student", "teacher")


def check_one_space(queries: Path, candidates: Path, anyway: bool = False) -> str:
    """Return in words what puts two checkpoints into one space.

    Args:
        queries: folder of the model that embeds queries.
        candidates: folder of the model that embeds candidates.
        anyway: go on where nothing does.

    Raises:
        ConfigError: their dimensions differ, or nothing says that the space is one.
    """
    lengths = [settings_for(folder).dimension for folder in (queries, candidates)]
    if lengths[0] != lengths[1]:
        raise ConfigError(
            f"`{queries}` has vectors of {lengths[0]} numbers, and `{candidates}` of {lengths[1]}.",
            cause="Queries are searched among candidates of the same space.",
            hint="puma prune --bridge, or puma distill, leads a cut into its parent's space.",
        )
    found = _relation(queries, candidates)
    if found:
        return found
    if anyway:
        return "nothing says that the space is one: compared at the user's word"
    raise ConfigError(
        f"Nothing says that `{queries}` and `{candidates}` put their vectors into one space.",
        cause="Neither is the other's parent or teacher, of the same content, in its puma.json, "
        "and they share none.",
        hint="Vectors of unrelated models have meaningless cosines. To score them still: "
        "--any-space",
    )


def _relation(queries: Path, candidates: Path) -> str:
    if fingerprint(queries) == fingerprint(candidates):
        return "both are the same model"
    for child, other, side in (
        (queries, candidates, "queries' model"),
        (candidates, queries, "candidates' model"),
    ):
        for parent in _parents(child):
            if is_unchanged(other, parent.fingerprint):
                return f"the {side} was {_how(child, parent)} the other"
    theirs = {parent.fingerprint for parent in _parents(candidates)}
    for parent in _parents(queries):
        if parent.fingerprint in theirs:
            return f"both were made from {parent.name}"
    return ""


def _parents(folder: Path) -> list[Parent]:
    provenance = read_provenance(folder)
    found = provenance.parents if provenance is not None else ()
    return [parent for parent in found if parent.role in _MODELS]


def _how(child: Path, parent: Parent) -> str:
    if parent.role == "teacher":
        return "taught by"
    if parent.role == "student":
        return "trained on from"
    bridged = settings_for(child).head is not None
    return "cut, with a bridge, from" if bridged else "cut from"
