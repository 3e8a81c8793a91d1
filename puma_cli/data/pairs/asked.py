"""Tables of pairs to score a model on: each row's query has to find the row's positives."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from puma_cli.config.pairs_settings import PairsSettings
from puma_cli.data.columns import Columns
from puma_cli.data.instructions import Instructions
from puma_cli.data.mbeir import TaskName
from puma_cli.data.pairs.collection import Collection, task_of
from puma_cli.data.pairs.files import pair_files
from puma_cli.data.pairs.reading import PairReader
from puma_cli.data.records import Candidate, Query
from puma_cli.errors import DataError
from puma_cli.progress import SILENT, Reporter

_Key = tuple[str | None, Path | None, str | None]


class AskedPairs:
    """Queries of tables of pairs, as `puma_cli.data.retrieval_data.RetrievalData` has them.

    Rows with the same query and instruction are one query with all their positives. The candidates
    are the distinct contents of all positives and hard negatives: of one table for the local pool,
    of all tables for the union pool. The same picture in two files is one content.

    Args:
        path: a table, or a folder of them.
        settings: which columns hold what.
        split: which split is meant where names of files tell several.
        skip_broken: leave broken and incomplete rows out, and count them in `skipped`.

    Raises:
        ConfigError: columns are named in part only.
        DataError: a table or a row is broken, or there are none.
    """

    def __init__(
        self,
        path: Path,
        settings: PairsSettings,
        split: str = "test",
        skip_broken: bool = False,
        reporter: Reporter = SILENT,
    ) -> None:
        self.skipped = 0
        self.root = path if path.is_dir() else path.parent
        self.instructions = Instructions()
        preferred = (split,) if settings.split is None else (settings.split,)
        files = pair_files(path, settings.split, preferred)
        datasets = list(dict.fromkeys(file.dataset for file in files))
        collection = Collection(datasets, settings.prompt)
        reader = PairReader(settings, self.root, self._count if skip_broken else None)
        self._places: dict[str, str] = {}
        for file in reporter.track(files, "tables", total=len(files)):
            for pair in reader.pairs(file):
                collection.add(pair, TaskName(file.dataset, task_of(pair)))
                self._places[collection.queries[-1].qid] = reader.place
        if not collection.queries:
            raise DataError(f"No pair is left of {path}.", cause=reader.skipped)
        collection.close()
        self.skipped += sum(reader.left_out.values())
        self._pools: dict[str, dict[str, Candidate]] = {}
        self._asked = self._merged(collection)
        left_out = f"{self.skipped:,} rows were left out." if self.skipped else ""
        reporter.note(" ".join(filter(None, (self._summary(), left_out))))
        for roles in reader.roles:
            reporter.note(f"Columns: {roles}.")

    @property
    def datasets(self) -> list[str]:
        """Names of the tables, or of the folders that several are parts of."""
        return list(self._pools)

    def tasks(self, split: str) -> list[TaskName]:
        """Return the tasks: each data set once for each kind of query and positive in it."""
        return sorted(self._asked, key=lambda task: (task.task_id, task.dataset))

    def queries(self, split: str, task: TaskName) -> list[Query]:
        """Return the distinct queries of a task."""
        return self._asked[task]

    def qrels(self, split: str, task: TaskName) -> dict[str, set[str]]:
        """Return the ids of the positives of each query."""
        return {query.qid: set(query.relevant) for query in self._asked[task]}

    def judged_at(self, split: str, task: TaskName, qid: str) -> str:
        """Return the row that a query first stands in, as `FILE, line N`."""
        return self._places[qid]

    def local_pool(self, task: TaskName, split: str) -> list[Candidate]:
        """Return the candidates of the task's data set."""
        return list(self._pools[task.dataset].values())

    def union_pool(self, split: str) -> list[Candidate]:
        """Return the candidates of all data sets; a content of several stands there once each."""
        return list({did: c for pool in self._pools.values() for did, c in pool.items()}.values())

    def named_at(self, image: Path) -> str:
        """Return the row that first shows an image, as `FILE, line N`; empty if none does."""
        pools = self._pools.values()
        shown = {did for pool in pools for did, c in pool.items() if c.image == image}
        for queries in self._asked.values():
            for query in queries:
                if query.image == image or shown & {*query.positives, *query.negatives}:
                    return self._places[query.qid]
        return ""

    def _count(self, where: str, error: DataError) -> None:
        self.skipped += 1

    def _merged(self, collection: Collection) -> dict[TaskName, list[Query]]:
        same = _same_content(collection.candidates)
        asked: dict[TaskName, dict[_Key, Query]] = defaultdict(dict)
        # What answers a query, whatever kind of thing it is.
        known: dict[tuple[str, _Key], dict[str, None]] = defaultdict(dict)
        for query in collection.queries:
            task = collection.task_name(query)
            positives, negatives = (
                [same[did].did for did in dids] for dids in (query.positives, query.negatives)
            )
            pool = self._pools.setdefault(task.dataset, {})
            pool |= {did: collection.candidate(did) for did in (*positives, *negatives)}
            key = (query.text, query.image, query.instruction)
            first = asked[task].setdefault(key, replace(query, positives=(), negatives=()))
            known[task.dataset, key] |= dict.fromkeys(positives)
            asked[task][key] = replace(
                first,
                positives=tuple(dict.fromkeys((*first.positives, *positives))),
                negatives=tuple(dict.fromkeys((*first.negatives, *negatives))),
            )
        return {
            task: [
                replace(query, known_positives=tuple(known[task.dataset, key]))
                for key, query in queries.items()
            ]
            for task, queries in asked.items()
        }

    def _summary(self) -> str:
        queries = sum(map(len, self._asked.values()))
        candidates = sum(map(len, self._pools.values()))
        return f"{queries:,} queries, {candidates:,} candidates."


def _same_content(candidates: list[Candidate]) -> dict[str, Candidate]:
    """Return for each id the first candidate of the same content."""
    columns = Columns()
    return {each.did: columns.candidates[columns.add(each)] for each in candidates}
