"""What an analysis would take, from the model's config and the data alone."""

from __future__ import annotations

from dataclasses import dataclass

from puma_cli.checkpoint.json_object import read_object
from puma_cli.checkpoint.layout import CONFIG
from puma_cli.checkpoint.source import resolve
from puma_cli.config.legal import check_settings
from puma_cli.config.settings import AnalyzeSettings
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.errors import CheckpointError
from puma_cli.models.embedder_settings import settings_for
from puma_cli.profiling.bridges.bridge import (
    BUDGET,
    HELD_OUT,
    block_size,
    moments_bytes,
    passes_needed,
)
from puma_cli.profiling.recommendation.aims import aims_of
from puma_cli.profiling.retrieval.passes import storage
from puma_cli.profiling.sampling import sample_for
from puma_cli.profiling.similarity.cka import cka_bytes
from puma_cli.profiling.similarity.probe import KEPT_ROWS
from puma_cli.profiling.states.depth_states import check_reads_one_token
from puma_cli.progress import SILENT, Reporter


@dataclass(frozen=True)
class AnalyzePlan:
    """What an analysis would read and hold.

    Args:
        depth: number of decoder layers L.
        width: length D of the decoder's states.
        queries: queries scored.
        candidates: distinct candidates searched.
        training_rows: training inputs at most for the bridges, 0 without them.
        passes: how often those pass through the model.
        memory: bytes by what holds them, beside the model and one batch; not all at one time.
        written: bytes of the bridges of all depths.
    """

    depth: int
    width: int
    queries: int
    candidates: int
    training_rows: int
    passes: int
    memory: dict[str, int]
    written: int


def plan_analysis(settings: AnalyzeSettings, reporter: Reporter = SILENT) -> AnalyzePlan:
    """Return what `analyze` with these settings would take; no weight is read.

    Raises:
        CheckpointError: the model's config is missing or broken.
        ConfigError: a setting has an illegal value, or the model reads no single token.
        DataError: the data set is missing or broken, or has more queries than can be held.
    """
    check_settings(settings)
    aims_of(settings)
    data = MbeirFolder(settings.data)
    folder = resolve(settings.model, reporter)
    config = read_object(folder / CONFIG)
    text = config.get("text_config", config)
    depth, width = (text.get(name) for name in ("num_hidden_layers", "hidden_size"))
    if not isinstance(depth, int) or not isinstance(width, int):
        raise CheckpointError(
            f"{folder / CONFIG} does not say how deep and how wide the decoder is.",
            cause="It has no num_hidden_layers or no hidden_size.",
        )
    embeds = settings_for(folder)
    check_reads_one_token(embeds)
    sample = sample_for(settings, data)
    bridged = bool(settings.bridge_rows) and data.has_training and depth > 1
    memory, passes, written = memory_needed(
        depth=depth,
        width=width,
        outputs=embeds.dimension,
        held=len(sample.queries) + sample.positives,
        rows=settings.bridge_rows if bridged else 0,
        keep_last=settings.keep_last,
        tokens=settings.tokens,
    )
    return AnalyzePlan(
        depth=depth,
        width=width,
        queries=sample.query_count,
        candidates=len(sample.candidates),
        training_rows=settings.bridge_rows if bridged else 0,
        passes=passes,
        memory=memory,
        written=written,
    )


def memory_needed(
    *,
    depth: int,
    width: int,
    outputs: int,
    held: int,
    rows: int,
    keep_last: bool,
    tokens: bool,
    budget: int = BUDGET,
) -> tuple[dict[str, int], int, int]:
    """Return the bytes held by part, the passes over the training rows, and the bytes of the maps.

    Args:
        depth: number of decoder layers L.
        width: length D of the states.
        outputs: length of the embedding.
        held: queries and relevant candidates, which stay in memory at every depth.
        rows: training rows for the bridges, 0 without them.
        keep_last: with the cuts that keep the last layer.
        tokens: with states of further tokens, and CKA.
        budget: most bytes of moments at once.
    """
    memory = {}
    cuts = (depth - 1) + (max(0, depth - 2) if keep_last else 0) if rows else 0
    written = 4 * cuts * outputs * (width + 1)
    passes = passes_needed(cuts, width, outputs, budget) if cuts else 0
    if cuts:
        block = block_size(cuts, width, outputs, budget)
        memory["sums of squares for the bridges"] = block * moments_bytes(width, outputs)
        memory["held-out states for the bridges"] = 4 * block * int(HELD_OUT * rows) * width
        memory["fitted bridges"] = written
    readings = 1 + keep_last + bool(rows) * (1 + keep_last)
    numbers = held * (depth + 1) * max(width, outputs) * readings
    memory["queries and relevant candidates at every depth"] = numbers * storage(numbers).itemsize
    if tokens:
        # Both sides, at the embed token and at others.
        memory["states kept for CKA"] = 4 * KEPT_ROWS * (depth + 1) * width * 4
        memory["CKA of one group"] = cka_bytes(depth + 1, KEPT_ROWS, width)
    return memory, passes, written
