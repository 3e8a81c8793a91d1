"""Measuring models side by side: speed, memory, size and cost, and what each keeps."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from puma_cli.benching.figure_file import check_plot, write_plot
from puma_cli.benching.memory import peak_in_process, weight_bytes
from puma_cli.benching.mixture import describe_mixture, make_mixture
from puma_cli.benching.names import short_names
from puma_cli.benching.results import (
    CANDIDATE,
    MILLION,
    QUERY,
    SIDES,
    Bench,
    Kept,
    ModelResult,
    SideResult,
    Timing,
    spread_of,
)
from puma_cli.benching.rounds import KINDS, Laps, Load, run_rounds
from puma_cli.checkpoint.size import bytes_on_disk
from puma_cli.checkpoint.source import resolve
from puma_cli.config.legal import check_settings
from puma_cli.config.settings import BenchSettings
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.errors import ConfigError
from puma_cli.evaluation.comparison import compare
from puma_cli.evaluation.score_folder import read_scores
from puma_cli.models.devices import name_device
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from puma_cli.profiling.cost.depth_cost import count_parameters, index_bytes
from puma_cli.profiling.cost.flops import count_flops, count_sizes, unread_flops
from puma_cli.profiling.cost.latency import draw_evenly
from puma_cli.profiling.sampling import draw_sample
from puma_cli.progress import SILENT, Reporter

# Of a data set, this many candidates of a task are looked at besides the relevant ones.
_POOL = 1_000


def bench(settings: BenchSettings, reporter: Reporter = SILENT) -> Bench:
    """Measure models on the same inputs, in rounds in which they take turns.

    Raises:
        CheckpointError: a model cannot be opened.
        ConfigError: a setting has an illegal value, or there is not one score folder a model.
        DataError: data or scores are missing or broken, or the scores are of different queries.
        DeviceError: the device is not there, or ran out of memory.
        OutputError: the figure cannot be written.
    """
    check_settings(settings)
    if not settings.models:
        raise ConfigError("There is no model to measure.", hint="Name the reference first.")
    if settings.plot is not None:
        check_plot(settings.plot)
    names = short_names(settings.models)
    kept, notes = _kept(settings)
    folders = {
        name: resolve(model, reporter) for name, model in zip(names, settings.models, strict=True)
    }
    embedders = {
        name: load(folder, settings.device, settings.dtype, attention=settings.attention)
        for name, folder in folders.items()
    }
    with _inputs(settings, embedders) as (inputs, described):
        work = Load(inputs, settings.alone, settings.batch_size, settings.batch_tokens or None)
        laps = run_rounds(embedders, work, settings.rounds, settings.warmup, reporter)
        memory = {
            name: _memory(name, settings, folders[name], opened, work, laps[name], reporter)
            for name, opened in embedders.items()
        }
        # While the mixture's pictures are there.
        flops = {name: _flops(embedder, work) for name, embedder in embedders.items()}
    first = names[0]
    results = []
    for place, name in enumerate(names):
        embedder = embedders[name]
        query, candidate = (
            _side(side, laps[name], laps[first], flops[name], flops[first]) for side in SIDES
        )
        results.append(
            ModelResult(
                name=name,
                model=settings.models[place],
                layers=embedder.depth,
                parameters=count_parameters(embedder).at(embedder.depth),
                dimension=embedder.dimension,
                disk=bytes_on_disk(folders[name]),
                memory=memory[name],
                index=index_bytes(MILLION, embedder.dimension),
                query=query,
                candidate=candidate,
                kept=kept[place] if kept else None,
            )
        )
    reference = embedders[first]
    found = Bench(
        models=tuple(results),
        inputs=described,
        queries=len(inputs[QUERY]),
        candidates=len(inputs[CANDIDATE]),
        alone=len(work.singles(QUERY)),
        rounds=settings.rounds,
        device=name_device(reference.device),
        dtype=str(reference.dtype).removeprefix("torch."),
        price_per_hour=settings.price_per_hour,
        metric=settings.metric if kept else "",
        notes=tuple(notes),
        plot=settings.plot,
    )
    if settings.plot is not None:
        write_plot(settings.plot, found)
    return found


@contextmanager
def _inputs(
    settings: BenchSettings, embedders: Mapping[str, Embedder]
) -> Iterator[tuple[dict[str, list[Input]], str]]:
    """Give queries and candidates by side, and in words what they are."""
    count = settings.inputs
    if settings.data is not None:
        sample = draw_sample(
            MbeirFolder(settings.data),
            settings.split,
            settings.tasks,
            samples=count,
            pool=_POOL,
            seed=settings.seed,
        )
        drawn = {
            QUERY: _at_most(sample.queries, count),
            CANDIDATE: _at_most(sample.candidates, count),
        }
        sizes = f"{len(drawn[QUERY])} queries and {len(drawn[CANDIDATE])} candidates"
        yield drawn, f"{sizes} of {settings.data}, {settings.split}"
        return
    images = all(embedder.tower is not None for embedder in embedders.values())
    with tempfile.TemporaryDirectory(prefix="puma-bench-") as name:
        queries, candidates = make_mixture(
            Path(name), count, settings.image_side, settings.seed, images=images
        )
        described = describe_mixture(count, settings.image_side, images=images)
        yield {QUERY: queries, CANDIDATE: candidates}, described


def _at_most(inputs: Sequence[Input], count: int) -> list[Input]:
    return draw_evenly(inputs, min(count, len(inputs)))


def _kept(settings: BenchSettings) -> tuple[list[Kept], list[str]]:
    """Return what each model keeps of the first one's score, and what is odd about the scores."""
    if not settings.scores:
        return [], []
    folders, models = settings.scores, settings.models
    if len(folders) != len(models) or len(models) < 2:
        raise ConfigError(
            f"There are {len(folders)} score folders for {len(models)} models.",
            cause="Retention is read off one score folder a model, of two models at least.",
            hint="Repeat --scores once for each model, in their order.",
        )
    comparison = compare(folders, metric=settings.metric, pool=settings.pool, allow_partial=True)
    kept = [
        Kept(cell.score, cell.retention, cell.retention_interval) for cell in comparison.mean.cells
    ]
    notes = list(comparison.notes)
    for folder, model in zip(folders, models, strict=True):
        label = read_scores(folder).label
        if Path(label).name != Path(model).name:
            notes.append(f"The scores in {folder} are of {label}, which is called {model} here.")
    return kept, notes


def _memory(
    name: str,
    settings: BenchSettings,
    folder: Path,
    embedder: Embedder,
    work: Load,
    laps: Laps,
    reporter: Reporter,
) -> int | None:
    if laps.working is not None:
        return weight_bytes(embedder) + laps.working
    if not settings.memory or embedder.device.type != "cpu":
        return None
    reporter.note(f"Measuring the memory of {name} in a process of its own.")
    return peak_in_process(
        folder,
        [entry for entries in work.inputs.values() for entry in entries],
        dtype=settings.dtype,
        attention=settings.attention,
        batch_size=work.batch_size,
        batch_tokens=work.batch_tokens,
    )


def _flops(embedder: Embedder, work: Load) -> dict[tuple[str, bool], tuple[float, float, float]]:
    """Return mean tokens, patches and FLOPs by side, of single inputs (True) and of all."""
    found = {}
    for side, entries in work.inputs.items():
        for alone, chosen in ((True, work.singles(side)), (False, entries)):
            tokens, patches = count_sizes(embedder.collate(chosen))
            flops = count_flops(embedder.model, tokens, patches).at(embedder.depth)
            found[side, alone] = (
                sum(tokens) / len(tokens),
                sum(patches) / len(patches),
                flops - unread_flops(embedder, tokens),
            )
    return found


def _side(
    side: str,
    laps: Laps,
    first: Laps,
    flops: Mapping[tuple[str, bool], tuple[float, float, float]],
    ideal: Mapping[tuple[str, bool], tuple[float, float, float]],
) -> SideResult:
    tokens, patches, each = flops[side, False]
    timings = {}
    for kind in KINDS:
        alone = kind.startswith("alone")
        own, others = laps.seconds[side, kind], first.seconds[side, kind]
        timings[kind] = Timing(
            seconds=spread_of(own),
            faster=spread_of([b / a for a, b in zip(own, others, strict=True)]),
            ideal=ideal[side, alone][2] / flops[side, alone][2],
        )
    return SideResult(tokens=tokens, patches=patches, flops=each, **timings)
