"""Measuring every layer of a model on a data set and recommending a cut: `puma analyze`."""

from __future__ import annotations

from dataclasses import replace

from puma_cli.checkpoint.fingerprint import identify
from puma_cli.checkpoint.output_folder import check_free, new_folder
from puma_cli.checkpoint.provenance import Parent, describe, write_provenance
from puma_cli.checkpoint.source import resolve
from puma_cli.config.legal import check_settings
from puma_cli.config.settings import AnalyzeSettings
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.models.embedder import Embedder, load
from puma_cli.profiling.choice import choose
from puma_cli.profiling.profile import LayerProfile, mean_curve, write_profile
from puma_cli.profiling.readout import read_out_depths
from puma_cli.progress import SILENT, Reporter
from puma_cli.report.profile_page import write_profile_page

METRIC = "hit@1"


def analyze(settings: AnalyzeSettings, reporter: Reporter = SILENT) -> LayerProfile:
    """Profile a model, recommend a depth, and write the profile folder with its report.

    The folder holds `profile.json`, `report.html`, a PNG of each figure and `puma.json`.

    Raises:
        CheckpointError: the model cannot be opened.
        ConfigError: a setting has an illegal value.
        DataError: the data set is missing, broken or too large to be held at every depth.
        NumericError: a layer's output is not finite.
        OutputError: the output folder is taken, holds an input, or cannot be written.
    """
    check_settings(settings)
    check_free(settings.output_dir, settings.overwrite)
    data = MbeirFolder(settings.data)
    model = resolve(settings.model, reporter)
    with new_folder(settings.output_dir, settings.overwrite, (model, data.root)) as folder:
        parents = (
            Parent("model", settings.model, identify(model, settings.full_hash)),
            Parent("data", str(settings.data), identify(data.root, settings.full_hash)),
        )
        embedder = load(model, settings.device, settings.dtype)
        profile = profile_embedder(embedder, data, settings, reporter)
        reporter.note("Drawing the report.")
        write_profile(profile, folder)
        write_profile_page(profile, folder, str(settings.output_dir))
        results = {"recommended": profile.recommended, "rule": profile.choice.rule}
        write_provenance(folder, describe("analyze", settings, parents, results=results))
    return replace(profile, folder=settings.output_dir)


def profile_embedder(
    embedder: Embedder, data: MbeirFolder, settings: AnalyzeSettings, reporter: Reporter = SILENT
) -> LayerProfile:
    """Profile an open model without writing anything.

    Raises:
        DataError: the data set is broken or too large to be held at every depth.
        NumericError: a layer's output is not finite.
    """
    readout, similarity, partial = read_out_depths(
        embedder,
        data,
        split=settings.split,
        tasks=settings.tasks,
        limit=settings.limit,
        batch_size=settings.batch_size,
        reporter=reporter,
    )
    choice = choose(
        mean_curve(readout, METRIC),
        queries=sum(task.queries for task in readout),
        retention=settings.retention,
        metric=METRIC,
    )
    return LayerProfile(
        model=settings.model,
        data=str(settings.data),
        split=settings.split,
        partial=partial,
        depth=embedder.depth,
        dimension=embedder.dimension,
        parameters=count_parameters(embedder),
        readout=readout,
        similarity=similarity,
        choice=choice,
    )


def count_parameters(embedder: Embedder) -> tuple[int, ...]:
    """Return the parameters of the model cut after k = 0 to L decoder layers, (L + 1,)."""
    layers = [sum(p.numel() for p in layer.parameters()) for layer in embedder.decoder.layers]
    rest = sum(p.numel() for p in embedder.model.parameters()) - sum(layers)
    return tuple(rest + sum(layers[:k]) for k in range(len(layers) + 1))
