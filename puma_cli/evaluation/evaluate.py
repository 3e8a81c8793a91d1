"""Scoring a model by M-BEIR's protocol: `puma eval`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from puma_cli.checkpoint.fingerprint import identify
from puma_cli.checkpoint.output_folder import check_free, new_folder
from puma_cli.checkpoint.provenance import Parent, describe, write_provenance
from puma_cli.checkpoint.source import resolve
from puma_cli.config.legal import check_settings
from puma_cli.config.settings import EvaluateSettings
from puma_cli.encoding.encoder import StoredEncoder
from puma_cli.errors import ConfigError
from puma_cli.evaluation.encode import Encoder
from puma_cli.evaluation.mmeb.evaluate import evaluate_mmeb
from puma_cli.evaluation.mmeb.means_file import write_means
from puma_cli.evaluation.opening import ScoredData, open_scored_data
from puma_cli.evaluation.query_encoder import open_query_encoder
from puma_cli.evaluation.results import Scores
from puma_cli.evaluation.score_folder import write_run, write_scores
from puma_cli.evaluation.scoring import KeepRun, Watch, evaluate_embedder
from puma_cli.processes import join
from puma_cli.progress import SILENT, Reporter
from puma_cli.report.example_chooser import ExampleChooser
from puma_cli.report.score_page import write_score_page


def evaluate(settings: EvaluateSettings, reporter: Reporter = SILENT) -> Scores:
    """Score a model on a data set and write its score folder.

    Vectors come from the cache as far as it has them; they are found by the content of model and
    data alone. Scores are computed anew each time. Several processes share the encoding; those
    other than the first return scores without rows.

    Raises:
        CheckpointError: the model cannot be opened.
        ConfigError: a setting has an illegal value.
        DataError: the data set is missing or broken.
        NumericError: an embedding is not finite.
        OutputError: the output folder is taken, holds an input, or cannot be written.
    """
    check_settings(settings)
    processes = join(settings.device)
    if processes.is_main:
        check_free(settings.output_dir, settings.overwrite)
    data = open_scored_data(settings, reporter)
    model = resolve(settings.model, reporter)
    encoder = StoredEncoder(model, settings, settings.model, processes)
    asker = open_query_encoder(settings, model, processes, reporter)
    queries = None if asker is None else asker.encoder
    if not processes.is_main:
        with data.images_named():
            return score_data(encoder, data, settings, None, reporter, queries, encode_only=True)
    inputs = [model, data.root, *([asker.folder] if asker else [])]
    with new_folder(settings.output_dir, settings.overwrite, inputs) as folder:
        parents = [
            Parent("model", settings.model, identify(model, settings.full_hash)),
            Parent("data", str(settings.data), identify(data.source, settings.full_hash)),
            *([asker.parent] if asker else []),
        ]
        shown = ExampleChooser(settings.seed)
        with data.images_named():
            scores = score_data(
                encoder,
                data,
                settings,
                lambda *run: write_run(folder, *run),
                reporter,
                queries,
                watch=shown.see,
            )
            if asker is not None:
                scores = replace(scores, query_model=asker.name, space=asker.space)
        write_scores(folder, scores)
        write_score_page(folder, scores, shown.chosen())
        results: dict[str, Any] = {
            "partial": scores.partial,
            "means": scores.means,
            "encoding": encoder.record,
        }
        if asker is not None:
            results["query_encoding"] = asker.encoder.record
        if data.mmeb is not None:
            results |= write_means(folder, scores)
        write_provenance(folder, describe("evaluate", settings, parents, results=results))
    return scores


def score_data(
    embedder: Encoder,
    data: ScoredData,
    settings: EvaluateSettings,
    keep_run: KeepRun | None = None,
    reporter: Reporter = SILENT,
    query_embedder: Encoder | None = None,
    encode_only: bool = False,
    watch: Watch | None = None,
) -> Scores:
    """Score an open model on open data as the settings say, without writing anything.

    Args:
        keep_run: see `evaluate_embedder`; MMEB has no runs.
        query_embedder: what embeds the queries, if not `embedder`.
        watch: see `evaluate_embedder`.
        encode_only: return scores without rows, for a process that shares in the encoding alone.

    Raises:
        DataError: the data are broken.
        NumericError: an embedding is not finite.
    """
    if data.mmeb is not None:
        if settings.hubness_penalty:
            raise ConfigError(
                f"hubness_penalty = {settings.hubness_penalty:g} is set, but MMEB's queries have "
                "candidates of their own.",
                hint="Leave it out.",
            )
        found = evaluate_mmeb(
            embedder,
            data.mmeb,
            tasks=settings.tasks,
            limit=settings.limit,
            batch_size=settings.batch_size,
            model=settings.model,
            query_embedder=query_embedder,
            reporter=reporter,
        )
        return replace(found, rows=()) if encode_only else found
    assert data.retrieval is not None
    found = evaluate_embedder(
        embedder,
        data.retrieval,
        split=settings.split,
        tasks=settings.tasks,
        pools=[pool for pool in settings.pools if pool in data.pools] or data.pools,
        limit=settings.limit,
        instruction=settings.instruction,
        k=settings.k,
        unanswerable=settings.unanswerable,
        seed=settings.seed,
        batch_size=settings.batch_size,
        model=settings.model,
        query_embedder=query_embedder,
        hubness_penalty=settings.hubness_penalty,
        search_by=settings.search,
        keep_run=keep_run,
        encode_only=encode_only,
        watch=watch,
        reporter=reporter,
    )
    return replace(found, protocol=data.protocol, skipped=data.skipped)
