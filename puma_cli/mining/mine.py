"""Hard negatives for every training query, as a model finds them: `puma mine`."""

from __future__ import annotations

from collections import defaultdict

from puma_cli.checkpoint.fingerprint import identify
from puma_cli.checkpoint.output_folder import check_free, new_folder
from puma_cli.checkpoint.provenance import Parent, describe, write_provenance
from puma_cli.checkpoint.source import resolve
from puma_cli.config.legal import check_settings
from puma_cli.config.settings import MineSettings
from puma_cli.data.mbeir import MbeirFolder, TaskName
from puma_cli.errors import ConfigError, OutputError
from puma_cli.mining.negatives import Found, find_negatives
from puma_cli.mining.passes import Passes
from puma_cli.mining.pool import DistinctPool
from puma_cli.mining.questions import Questions, read_questions
from puma_cli.mining.readme import write_readme
from puma_cli.mining.summary import MineResult, summarise
from puma_cli.mining.writing import Negatives, write_data_set
from puma_cli.models.embedder import Embedder
from puma_cli.models.opening import load
from puma_cli.processes import ALONE, Processes, join
from puma_cli.progress import SILENT, Reporter


def mine(settings: MineSettings, reporter: Reporter = SILENT) -> MineResult:
    """Find hard negatives with a model, and write the data set with them.

    A negative is a candidate that scores high for a query and is no answer of it: not one that the
    data name, none that shows the same as one of these, and none that scores so near the query's
    own positive, or above it, that it may be an answer nobody named (NV-Retriever, arXiv
    2407.15831). The folder has the M-BEIR layout; all but the training queries are links.

    Raises:
        CheckpointError: the model cannot be opened.
        ConfigError: a setting has an illegal value, or two contradict one another.
        DataError: the data set is missing or broken, or has no training split.
        DeviceError: the device is not there, or runs out of memory.
        NumericError: an embedding is not finite.
        OutputError: the output folder is taken, lies in the data set, or cannot be written.
    """
    check_settings(settings)
    _check(settings)
    processes = join(settings.device)
    if processes.is_main:
        # Before a model is fetched for nothing.
        check_free(settings.output_dir, settings.overwrite)
    data = MbeirFolder(settings.data)
    questions = read_questions(data, settings.tasks)
    model = resolve(settings.model, reporter)

    def found() -> list[Found]:
        embedder = load(model, settings.device, settings.dtype)
        return mine_embedder(embedder, data, questions, settings, reporter, processes)

    if not processes.is_main:
        return _sum_up(questions, found(), settings)
    with new_folder(settings.output_dir, settings.overwrite, (model, data.root)) as folder:
        parents = (
            Parent("model", settings.model, identify(model, settings.full_hash)),
            Parent("data", str(settings.data), identify(data.root, settings.full_hash)),
        )
        each = found()
        result = _sum_up(questions, each, settings)
        write_data_set(folder, data, _of_lines(questions, each), settings.keep_existing)
        write_readme(folder, data.root.resolve(), settings, result)
        results = {
            "mined_queries": result.total.queries,
            "negatives": result.total.negatives,
            "positive_cosine": result.total.positive,
            "negative_cosine": result.total.negative,
            "above_the_margin": result.total.above,
            "queries_without": sum(result.total.without.values()),
            "tasks": result.tasks,
        }
        write_provenance(folder, describe("mine", settings, parents, results=results))
    return result


def mine_embedder(
    embedder: Embedder,
    data: MbeirFolder,
    questions: Questions,
    settings: MineSettings,
    reporter: Reporter = SILENT,
    processes: Processes = ALONE,
) -> list[Found]:
    """Return what an open model finds for each question, without writing anything.

    Args:
        processes: those that share the work; each gets the whole result.

    Raises:
        DataError: the pool is missing or broken, or holds no positive.
        NumericError: an embedding is not finite.
    """
    wanted = {
        did
        for question in questions.asked
        for did in (*question.positives, *(question.negatives if settings.keep_existing else ()))
    }
    pool = DistinctPool(data.stream_union_pool("train"), wanted)
    reporter.note(
        f"{len(questions.lines):,} training queries, {len(questions.asked):,} distinct; "
        f"{pool.size:,} candidates, {len(pool.candidates):,} distinct."
    )
    asks = [
        question.query.to_input(
            data.instructions.pick(question.query, settings.instruction, settings.seed)
        )
        for question in questions.asked
    ]
    passes = Passes(embedder, settings.batch_size, reporter, processes)
    return find_negatives(passes, questions.asked, asks, pool, settings)


def _of_lines(questions: Questions, found: list[Found]) -> list[Negatives]:
    return [None if place is None else found[place].negatives for place in questions.lines]


def _sum_up(questions: Questions, found: list[Found], settings: MineSettings) -> MineResult:
    by_task: dict[TaskName, list[Found]] = defaultdict(list)
    for place in questions.lines:
        if place is not None:
            by_task[questions.asked[place].task].append(found[place])
    order = sorted(by_task, key=lambda task: (task.task_id, task.dataset))
    every = [each for group in by_task.values() for each in group]
    return MineResult(
        folder=settings.output_dir,
        tasks=tuple(summarise(t.name, by_task[t], settings.negatives) for t in order),
        total=summarise("all", every, settings.negatives),
    )


def _check(settings: MineSettings) -> None:
    """Refuse settings that contradict one another."""
    if settings.sample and settings.depth < settings.skip + settings.negatives:
        raise ConfigError(
            f"depth = {settings.depth} leaves fewer than {settings.negatives} negatives to draw.",
            cause=f"The first {settings.skip} ranks are passed over." if settings.skip else "",
            hint=f"Give --depth {settings.skip + settings.negatives} or more.",
        )
    low, high = settings.min_score, settings.max_score
    if low is not None and high is not None and low > high:
        raise ConfigError(
            f"min_score = {low:g} is above max_score = {high:g}.", hint="Swap the two."
        )
    if settings.output_dir.resolve().is_relative_to(settings.data.resolve()):
        raise OutputError(
            f"The output folder `{settings.output_dir}` lies in the data set `{settings.data}`.",
            cause="The data set must stay as it is, and the result links to all that is in it.",
            hint="Give a folder beside it with --output-dir.",
        )
