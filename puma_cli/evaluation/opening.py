"""From the settings of `puma eval` to the data that a model is scored on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

from puma_cli.config.pairs_settings import PairsSettings
from puma_cli.config.settings import EvaluateSettings
from puma_cli.data.layouts import MBEIR, MMEB, PAIRS, tell_layout
from puma_cli.data.mbeir import MbeirFolder, is_asked_for
from puma_cli.data.mmeb.folder import MmebFolder
from puma_cli.data.mmeb.hub import fetch, is_hub_id
from puma_cli.data.pairs.asked import AskedPairs
from puma_cli.data.remaining import Remaining
from puma_cli.data.retrieval_data import RetrievalData
from puma_cli.errors import ConfigError, DataError, ImageError
from puma_cli.evaluation import results
from puma_cli.evaluation.results import LOCAL, UNION
from puma_cli.evaluation.tasks import TaskSummary, summarise
from puma_cli.progress import SILENT, Reporter

_TRAINING_ONLY = ("validation", "validation_pool")


class ScoredData:
    """What a model is scored on, and by whose rules.

    Args:
        protocol: `m-beir`, `mmeb` or `pairs`.
        retrieval: queries and pools, of all layouts but MMEB\'s.
        mmeb: rows with their own candidates.
        pools: of these the pools to search.
    """

    def __init__(
        self,
        protocol: str,
        retrieval: RetrievalData | None = None,
        mmeb: MmebFolder | None = None,
        pools: tuple[str, ...] = (LOCAL, UNION),
    ) -> None:
        self.protocol, self.retrieval, self.mmeb, self.pools = protocol, retrieval, mmeb, pools
        # What a later look at the data is compared with: one table, where that is all.
        self.source = self.root
        self._base = retrieval
        self._remaining: Remaining | None = None

    @property
    def root(self) -> Path:
        """The folder that the data come from."""
        data = self.mmeb or self.retrieval
        assert data is not None
        return data.root

    def skip(self, images: bool) -> None:
        """Go on with what is left without broken lines, and without bad images if asked."""
        assert self.retrieval is not None
        self.retrieval = self._remaining = Remaining(self.retrieval, images)

    @property
    def skipped(self) -> dict[str, int]:
        """What was left out so far because it is broken, by what it is."""
        found: Counter[str] = Counter()
        if self.mmeb is not None:
            found.update(self.mmeb.skipped)
        if isinstance(self._base, MbeirFolder):
            found["rows"] += sum(self._base.skipped.values())
        if isinstance(self._base, AskedPairs):
            found["rows"] += self._base.skipped
        if self._remaining is not None:
            found["images"] += len(self._remaining.unreadable)
            found["qrels of unknown queries"] += sum(self._remaining.unasked.values())
            found["queries without an answer"] += sum(self._remaining.unanswered.values())
        return {kind: count for kind, count in found.items() if count}

    @contextmanager
    def images_named(self) -> Iterator[None]:
        """Say of an image that cannot be read where the data name it."""
        try:
            yield
        except ImageError as error:
            if self.retrieval is None or error.path is None:
                raise
            where = self.retrieval.named_at(error.path)
            if not where:
                raise
            raise ImageError(
                error.problem,
                cause=f"It is named in {where}. {error.cause}".strip(),
                hint=error.hint or "To leave out what shows it: --bad-images skip",
                path=error.path,
            ) from error


def open_scored_data(settings: EvaluateSettings, reporter: Reporter = SILENT) -> ScoredData:
    """Open `settings.data`, fetching MMEB by hub id if it must.

    Raises:
        ConfigError: a setting plays no part in such data.
        DataError: the data are missing or broken.
    """
    path, layout = settings.data, settings.layout
    if layout == MMEB and is_hub_id(str(path)):
        path = fetch(str(path), settings.tasks, settings.images is None, reporter)
    elif not path.exists():
        hint = f"puma data scenes --output-dir {path} makes one to try."
        if is_hub_id(str(path)):
            hint = f"Is it a data set on the hub? Of these, MMEB is fetched: --mmeb {path}"
        raise DataError(f"The data folder {path} does not exist.", hint=hint)
    if layout == "auto":
        layout = tell_layout(path)
    skip_rows, skip_images = settings.bad_rows == "skip", settings.bad_images == "skip"
    if layout == MMEB:
        _check_unused(settings, MMEB)
        return ScoredData(
            results.MMEB, mmeb=MmebFolder(path, settings.images, skip_rows, skip_images)
        )
    if layout == PAIRS:
        _check_unused(settings, PAIRS)
        own = replace(settings.pairs, images=settings.images or settings.pairs.images)
        pairs = AskedPairs(path, own, settings.split, skip_rows, reporter)
        several = len(pairs.datasets) > 1
        found = ScoredData(results.PAIRS, pairs, pools=(LOCAL, UNION) if several else (LOCAL,))
        found.source = path
    else:
        _check_unused(settings, MBEIR)
        folder = MbeirFolder(path, skip_rows)
        _check_queries(folder, settings)
        found = ScoredData(results.MBEIR, folder)
    if skip_rows or skip_images:
        found.skip(skip_images)
    return found


def list_tasks(settings: EvaluateSettings, reporter: Reporter = SILENT) -> list[TaskSummary]:
    """Return the tasks that would be scored, with their numbers of queries and candidates.

    Raises:
        DataError: the data are missing or broken.
    """
    data = open_scored_data(settings, reporter)
    if data.mmeb is not None:
        sets = [data.mmeb.read(name) for name in data.mmeb.select(settings.tasks)]
        return [TaskSummary(each.name, len(each.queries), len(each.candidates)) for each in sets]
    assert data.retrieval is not None
    return summarise(data.retrieval, settings.split, settings.tasks)


def _check_queries(folder: MbeirFolder, settings: EvaluateSettings) -> None:
    """Refuse a task that has all but its queries: means would be over fewer tasks than it seems."""
    lost = [
        task
        for task in folder.tasks_without_queries(settings.split)
        if is_asked_for(task, settings.tasks)
    ]
    if lost:
        raise DataError(
            f"The file {folder.query_file(settings.split, lost[0])} is missing.",
            cause=f"{folder.qrel_file(settings.split, lost[0])} says what answers its queries.",
            hint="Bring it back, or choose among the tasks that are there with --tasks.",
        )


def _check_unused(settings: EvaluateSettings, layout: str) -> None:
    """Refuse settings that would be ignored without a word."""
    usual = PairsSettings()
    changed = [
        field.name
        for field in fields(usual)
        if getattr(settings.pairs, field.name) != getattr(usual, field.name)
    ]
    if layout == PAIRS:
        changed = [name for name in changed if name in _TRAINING_ONLY]
        wrong = "is for training: a table that is scored is scored whole"
    else:
        wrong = f"is set, but {settings.data} holds no tables of pairs"
    if changed:
        raise ConfigError(f"pairs.{changed[0]} {wrong}.", hint="Leave the setting out.")
    if settings.images is not None and layout == MBEIR:
        raise ConfigError(
            f"images = {settings.images} is set, but {settings.data} is in the M-BEIR layout.",
            cause="There, paths of images are relative to the folder.",
            hint="Leave the setting out.",
        )
