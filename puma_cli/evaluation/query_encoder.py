"""The model that embeds queries, where another embeds the candidates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from puma_cli.checkpoint.fingerprint import identify
from puma_cli.checkpoint.provenance import Parent
from puma_cli.checkpoint.source import resolve
from puma_cli.config.settings import EvaluateSettings
from puma_cli.encoding.encoder import StoredEncoder
from puma_cli.evaluation.one_space import check_one_space
from puma_cli.processes import Processes
from puma_cli.progress import Reporter


@dataclass(frozen=True)
class QueryEncoder:
    """A second model.

    Args:
        name: as the user named it.
        space: what puts it into the candidates' space, in words.
    """

    name: str
    folder: Path
    space: str
    parent: Parent
    encoder: StoredEncoder


def open_query_encoder(
    settings: EvaluateSettings, candidates: Path, processes: Processes, reporter: Reporter
) -> QueryEncoder | None:
    """Return the model of the queries, or None where one model embeds both sides.

    Args:
        candidates: folder of the model that embeds candidates.

    Raises:
        CheckpointError: it cannot be opened.
        ConfigError: nothing says that both live in one space.
    """
    name = settings.query_model
    if name is None:
        return None
    folder = resolve(name, reporter)
    space = check_one_space(folder, candidates, settings.any_space)
    parent = Parent("query_model", name, identify(folder, settings.full_hash))
    encoder = StoredEncoder(folder, settings, name, processes)
    return QueryEncoder(name, folder, space, parent, encoder)
