"""Measuring every cut of a model on a data set and recommending one: `puma analyze`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from statistics import fmean

from puma_cli.checkpoint.fingerprint import identify
from puma_cli.checkpoint.output_folder import check_free, new_folder
from puma_cli.checkpoint.provenance import Parent, describe, write_provenance
from puma_cli.checkpoint.source import resolve
from puma_cli.config.layers import first_layers, keep_last_layers
from puma_cli.config.legal import check_settings
from puma_cli.config.settings import AnalyzeSettings
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.interruption import StopRequest
from puma_cli.models.embedder import Embedder
from puma_cli.models.embedder_settings import settings_for
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from puma_cli.processes import ALONE, Processes, join
from puma_cli.profiling.bridges.bridge import HELD_OUT, Bridge, fit_bridges
from puma_cli.profiling.bridges.bridge_file import write_bridges
from puma_cli.profiling.bridges.training_rows import bridge_rows
from puma_cli.profiling.cost.depth_cost import costs_by_depth, count_parameters, index_bytes
from puma_cli.profiling.cost.flops import count_flops, count_sizes
from puma_cli.profiling.cost.latency import draw_evenly, measure_speed
from puma_cli.profiling.profile import (
    LayerProfile,
    Measurement,
    TaskReadout,
    mean_curve,
    write_profile,
)
from puma_cli.profiling.recommendation.aims import aims_of
from puma_cli.profiling.recommendation.choice import choose
from puma_cli.profiling.recommendation.curves import Curves
from puma_cli.profiling.recommendation.predictor import Prediction, predict
from puma_cli.profiling.retrieval.readings import CUTS
from puma_cli.profiling.retrieval.readout import read_out_depths
from puma_cli.profiling.retrieval.retention import retention_curves
from puma_cli.profiling.sampling import sample_for
from puma_cli.profiling.states.depth_states import check_reads_one_token
from puma_cli.progress import SILENT, Reporter
from puma_cli.report.profile_page import write_profile_page

METRIC = "hit@1"

# Lengths vary little enough that the mean of so many says that of all.
LENGTHS = 512


def analyze(
    settings: AnalyzeSettings, reporter: Reporter = SILENT, stop: StopRequest | None = None
) -> LayerProfile:
    """Profile a model, recommend a depth, and write the profile folder with its report.

    The folder holds `profile.json`, `bridges.safetensors`, `report.html`, a PNG of each figure and
    `puma.json`.

    Args:
        stop: listens for Ctrl-C and the like while cuts are scored; after a stop, the profile is
            of what was scored until then and is marked `stopped`. By default an interruption goes
            through, and nothing is written.

    Raises:
        CheckpointError: the model cannot be opened.
        ConfigError: a setting has an illegal value, or the model is pooled by the mean.
        DataError: the data set is missing, broken or too large to be held at every depth.
        DeviceError: the device is not there, or runs out of memory.
        NumericError: a layer's output is not finite.
        OutputError: the output folder is taken, holds an input, or cannot be written.
    """
    check_settings(settings)
    aims_of(settings)
    processes = join(settings.device)
    if processes.is_main:
        # Before a model is fetched for nothing.
        check_free(settings.output_dir, settings.overwrite)
    data = MbeirFolder(settings.data)
    model = resolve(settings.model, reporter)
    check_reads_one_token(settings_for(model))

    def measure() -> tuple[LayerProfile, dict[str, list[Bridge]]]:
        embedder = load(model, settings.device, settings.dtype)
        return profile_embedder(embedder, data, settings, reporter, stop, processes)

    if not processes.is_main:
        return replace(measure()[0], folder=settings.output_dir)
    with new_folder(settings.output_dir, settings.overwrite, (model, data.root)) as folder:
        parents = (
            Parent("model", settings.model, identify(model, settings.full_hash)),
            Parent("data", str(settings.data), identify(data.root, settings.full_hash)),
        )
        profile, bridges = measure()
        reporter.note("Drawing the report.")
        write_bridges(bridges, folder, profile.recommended)
        write_profile(profile, folder)
        write_profile_page(profile, folder, str(settings.output_dir))
        results = {
            "recommended": profile.recommended,
            "rule": profile.choice.rule,
            "stopped": profile.measured.stopped,
        }
        write_provenance(folder, describe("analyze", settings, parents, results=results))
    return replace(profile, folder=settings.output_dir)


def profile_embedder(
    embedder: Embedder,
    data: MbeirFolder,
    settings: AnalyzeSettings,
    reporter: Reporter = SILENT,
    stop: StopRequest | None = None,
    processes: Processes = ALONE,
) -> tuple[LayerProfile, dict[str, list[Bridge]]]:
    """Profile an open model without writing anything; return the fitted bridges beside it.

    Args:
        stop: as for `analyze`.
        processes: those that share the work; each gets the whole result, with its own times.

    Raises:
        DataError: the data set is broken or too large to be held at every depth.
        NumericError: a layer's output is not finite.
    """
    aims, parts = aims_of(settings), count_parameters(embedder)
    aims.check(parts)
    sample = sample_for(settings, data)
    # First, so that a stop later on finds the costs measured; by one process, while nothing else
    # takes its cores.
    (speed, *_) = processes.gather(
        measure_speed(
            embedder,
            sample.queries,
            sample.candidates,
            batch_size=settings.batch_size,
            reporter=reporter,
        )
        if processes.is_main
        else None
    )
    assert speed is not None
    bridges = _bridges(embedder, data, settings, reporter, processes)
    with nullcontext() if stop is None else stop:
        readout = read_out_depths(
            embedder,
            sample,
            bridges,
            keep_last=settings.keep_last,
            tokens=settings.tokens,
            batch_size=settings.batch_size,
            seed=settings.seed,
            stop=stop,
            reporter=reporter,
            processes=processes,
        )
    scored = readout.sample
    if scored is not sample:
        reporter.note(
            f"Stopped early: {scored.query_count:,} of {sample.query_count:,} queries are scored, "
            f"against {scored.candidate_count:,} of {sample.candidate_count:,} candidates."
        )
    queries, candidates = (
        _lengths(embedder, inputs) for inputs in (sample.queries, sample.candidates)
    )
    costs = costs_by_depth(
        embedder,
        count_flops(embedder.model, *queries),
        count_flops(embedder.model, *candidates),
        speed,
    )
    retention = retention_curves(readout.hits, settings.seed)
    full = mean_curve(readout.tasks, METRIC)[-1]
    prediction = predict(retention, dimension=embedder.dimension, full=full)
    first, keep_last = (
        _curves(readout.tasks, cut, prediction) if cut in retention else None for cut in CUTS
    )
    assert first is not None
    choice = choose(
        first,
        keep_last=keep_last,
        queries=scored.query_count,
        aims=aims,
        costs=costs,
        metric=METRIC,
    )
    profile = LayerProfile(
        model=settings.model,
        data=str(settings.data),
        depth=embedder.depth,
        dimension=embedder.dimension,
        measured=Measurement(
            split=settings.split,
            partial=scored.partial,
            stopped=scored is not sample,
            seed=settings.seed,
            batch_size=speed.batch_size,
            repeats=speed.repeats,
            device=speed.device,
            dtype=speed.dtype,
            query_tokens=fmean(queries[0]),
            candidate_tokens=fmean(candidates[0]),
            index_bytes=index_bytes(len(sample.candidates), embedder.dimension),
        ),
        parts=parts,
        costs=costs,
        readout=readout.tasks,
        retention=retention,
        bridges={name: tuple(bridge.fit for bridge in found) for name, found in bridges.items()},
        similarity=readout.similarity,
        prediction=prediction,
        choice=choice,
    )
    return profile, bridges


def _bridges(
    embedder: Embedder,
    data: MbeirFolder,
    settings: AnalyzeSettings,
    reporter: Reporter,
    processes: Processes,
) -> dict[str, list[Bridge]]:
    """Fit a bridge for each cut, where the data have a training split to fit on."""
    if not settings.bridge_rows or embedder.depth < 2:
        return {}
    if not data.has_training:
        reporter.note("The data have no training split, so no bridge is fitted.")
        return {}
    cuts = {"bridged": [first_layers(k, embedder.depth) for k in range(1, embedder.depth)]}
    if settings.keep_last:
        cuts["keep_last_bridged"] = [
            keep_last_layers(k, embedder.depth) for k in range(2, embedder.depth)
        ]
    fitted, judged = bridge_rows(data, settings.bridge_rows, HELD_OUT, settings.seed)
    found = fit_bridges(
        embedder,
        [cut for group in cuts.values() for cut in group],
        fitted,
        judged,
        batch_size=settings.batch_size,
        reporter=reporter,
        processes=processes,
    )
    return {name: [next(found) for _ in group] for name, group in cuts.items()}


def _curves(tasks: tuple[TaskReadout, ...], cut: str, prediction: Prediction | None) -> Curves:
    plain, bridged = CUTS[cut]
    return Curves(
        untrained=mean_curve(tasks, METRIC, plain),
        bridged=mean_curve(tasks, METRIC, bridged) if bridged in tasks[0].scores else None,
        predicted=None if prediction is None else prediction.kept.get(cut),
    )


def _lengths(embedder: Embedder, inputs: Sequence[Input]) -> tuple[list[int], list[int]]:
    """Return the tokens and image patches of inputs drawn evenly from `inputs`."""
    return count_sizes(embedder.collate(draw_evenly(inputs, min(LENGTHS, len(inputs)))))
