"""Whether a model may be asked on an index: do both put their vectors into one space?"""

from __future__ import annotations

from pathlib import Path

from puma_cli.checkpoint.fingerprint import SAMPLED, fingerprint, is_unchanged
from puma_cli.checkpoint.provenance import Parent
from puma_cli.checkpoint.source import resolve
from puma_cli.embedding.index_file import IndexDescription, facts_of
from puma_cli.errors import ConfigError, PumaError


def check_space(
    name: str, folder: Path, index: Path, about: IndexDescription, anyway: bool = False
) -> str:
    """Return in words what puts a model into the space of an index.

    Args:
        name: the model as the user named it.
        folder: where it is.
        index: where the index is.
        about: what the index is.
        anyway: go on where nothing does.

    Raises:
        ConfigError: the dimensions differ, or nothing says that the space is one.
    """
    mark, parents, dimension = facts_of(folder)
    if dimension != about.model_dimension:
        raise ConfigError(
            f"`{name}` has vectors of {dimension} numbers, and the model of `{index}` had "
            f"{about.model_dimension}.",
            cause=f"The index was made with `{about.model}`.",
            hint=f"Ask with that model, or embed again: puma embed {name} ...",
        )
    if mark == about.fingerprint:
        return "the index's own model"
    found = _relation(folder, mark, parents, about)
    if found:
        return found
    if anyway:
        return "nothing says that the space is one: searched at the user's word"
    if _is_place(name, folder, about):
        raise ConfigError(
            f"`{name}` is not the model any more that `{index}` was made with.",
            cause=f"Its fingerprint was {_short(about.fingerprint)}, and is {_short(mark)}.",
            hint="Embed the inputs again, with --overwrite, or bring the former model back. To "
            "search still: --any-space",
        )
    raise ConfigError(
        f"`{index}` is of another embedding space than `{name}`, as far as is known.",
        cause=f"It was made with `{about.model}`; neither of the two models is the other's parent "
        "or teacher, of the same content, in its puma.json, and they share none.",
        hint=f"Ask with {about.model}, or one of its students. Cosines of unrelated models mean "
        "nothing; to search still: --any-space",
    )


def _relation(folder: Path, mark: str, parents: tuple[Parent, ...], about: IndexDescription) -> str:
    for parent in parents:
        if _is_index_model(parent, about):
            return f"{_made(parent)} the index's model, {about.model}"
    for parent in about.parents:
        if parent.fingerprint == mark or is_unchanged(folder, parent.fingerprint):
            return f"the index's model, {about.model}, was {_made(parent)} it"
    theirs = {parent.fingerprint for parent in about.parents}
    shared = next((parent for parent in parents if parent.fingerprint in theirs), None)
    return "" if shared is None else f"both were made from {shared.name}"


def _is_index_model(parent: Parent, about: IndexDescription) -> bool:
    if parent.fingerprint == about.fingerprint:
        return True
    if parent.fingerprint.startswith(SAMPLED):
        return False
    # A hash of another kind can be compared as long as the model is still there, unchanged.
    try:
        there = resolve(about.model, fetch=False)
        return fingerprint(there) == about.fingerprint and is_unchanged(there, parent.fingerprint)
    except (PumaError, OSError):
        return False


def _made(parent: Parent) -> str:
    return {"teacher": "taught by", "student": "trained on from"}.get(parent.role, "cut from")


def _is_place(name: str, folder: Path, about: IndexDescription) -> bool:
    """Tell whether the index was made with what lay in this place then."""
    return name == about.model or Path(about.model).resolve() == folder.resolve()


def _short(mark: str) -> str:
    kind, _, digest = mark.partition(":")
    return f"{kind}:{digest[:12]}"
