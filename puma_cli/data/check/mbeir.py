"""A folder in the M-BEIR layout: whether its files fit one another."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from puma_cli.data.check.files import FileChecks, Rows
from puma_cli.data.check.hashes import Hashes, is_in
from puma_cli.data.check.images import ImageCheck
from puma_cli.data.check.report import CheckReport, Faults, TaskCount
from puma_cli.data.instructions import Instructions
from puma_cli.data.mbeir import MbeirFolder, TaskName
from puma_cli.data.records import TASK_MODALITIES
from puma_cli.progress import SILENT, Reporter

_QUERIES = re.compile(r"mbeir_(.+)_task(\d+)_(\w+)")
_EVALUATED = ("val", "test")


def check_mbeir(
    root: Path, look: str = "headers", limit: int = 100, reporter: Reporter = SILENT
) -> CheckReport:
    """Check a folder in the M-BEIR layout: every file, line, id, qrel and image.

    Memory is some tens of bytes a line, whatever the lines hold.

    Args:
        look: how images are looked at: `decoded`, `headers` or `not`.
        limit: how many faults are kept; all are counted.

    Raises:
        DataError: `root` is no such folder.
    """
    return _Check(MbeirFolder(root), look, Faults(limit)).report(reporter)


class _Check:
    def __init__(self, folder: MbeirFolder, look: str, faults: Faults) -> None:
        self._folder, self._faults = folder, faults
        self._read = FileChecks(folder.root, ImageCheck(look), faults)
        self._tasks: list[TaskCount] = []
        self._pools: dict[Path, Rows] = {}

    def report(self, reporter: Reporter) -> CheckReport:
        root, read = self._folder.root, self._read
        instructions = read.instructions(root / "instructions" / "query_instructions.tsv")
        pools = sorted((root / "cand_pool").glob("*/*.jsonl"))
        for path in reporter.track(pools, "pools", total=len(pools)):
            self._pools[path] = read.candidates(path)
        self._compare_with_union()
        files = sorted((root / "query").glob("*/*.jsonl"))
        if not files:
            self._faults.add("missing file", "query", "There are no queries.")
        for path in reporter.track(files, "queries", total=len(files)):
            self._check_queries(path, instructions)
        known = {each.file for each in read.counts}
        for path in sorted((root / "qrels").glob("*/*.txt")):
            if read.at(path) not in known:
                self._faults.add("file of no use", read.at(path), "It has no file of queries.")
        return CheckReport(
            root=str(root),
            layout="mbeir",
            files=tuple(read.counts),
            tasks=tuple(self._tasks),
            images=len(read.images),
            looked=read.images.look,
            faults=tuple(self._faults.kept),
            kinds=dict(self._faults.kinds),
        )

    def _compare_with_union(self) -> None:
        """Find candidates of local pools that the union pool lacks, or has with another content."""
        for path, local in self._pools.items():
            if path.parent.name != "local":
                continue
            own = [split for split in _EVALUATED if path.stem.endswith(f"_{split}_cand_pool")]
            files = [self._folder.union_file(split) for split in own or _EVALUATED]
            unions = [self._pools[file] for file in files if file in self._pools]
            if not unions:
                continue
            there = is_in(local.ids.hashes, _sorted([each.ids.hashes for each in unions]))
            same = is_in(local.contents.hashes, _sorted([e.contents.hashes for e in unions]))
            for kind, wrong, problem in (
                ("not in union pool", ~there, "The union pool does not have this candidate."),
                ("two contents", there & ~same, "The union pool has other content of this id."),
            ):
                for line in local.ids.lines[wrong].tolist():
                    self._faults.add(kind, self._read.at(path, line), problem)

        self._compare_with_locals()

    def _compare_with_locals(self) -> None:
        """Find candidates of a union pool that are in no task's own: a file may be cut short."""
        for split in _EVALUATED:
            union = self._pools.get(self._folder.union_file(split))
            others = tuple(f"_{each}_cand_pool" for each in _EVALUATED if each != split)
            locals_ = [
                rows.ids.hashes
                for path, rows in self._pools.items()
                if path.parent.name == "local" and not path.stem.endswith(others)
            ]
            if union is None or not locals_:
                continue
            path = self._folder.union_file(split)
            for line in union.ids.lines[~is_in(union.ids.hashes, _sorted(locals_))].tolist():
                problem = "No task's own pool has this candidate."
                self._faults.add("not in local pool", self._read.at(path, line), problem)

    def _check_queries(self, path: Path, instructions: Instructions) -> None:
        split = path.parent.name
        match = _QUERIES.fullmatch(path.stem)
        task = TaskName(match[1], int(match[2])) if match and match[3] == split else None
        if task is not None and task.task_id not in TASK_MODALITIES:
            self._faults.add("unknown task", self._read.at(path), f"There is no {task.task_id}.")
            return
        if task is None and split in _EVALUATED:
            expected = f"mbeir_DATASET_taskN_{split}.jsonl"
            self._faults.add("odd name", self._read.at(path), f"It is not read: no {expected}.")
            return
        queries = self._read.queries(path, task, instructions)
        union = self._pool(self._folder.union_file(split.removeprefix("union_")), path)
        local = Rows() if task is None else self._pool(self._folder.local_file(split, task), path)
        known = _sorted([union.ids.hashes, local.ids.hashes])
        if len(known):
            lost = queries.named.lines[~is_in(queries.named.hashes, known)]
            for line in np.unique(lost).tolist():
                problem = "It names a positive or negative that no pool of its split has."
                self._faults.add("unknown candidate", self._read.at(path, line), problem)
        self._check_qrels(split, task, path, queries, local, known)

    def _check_qrels(
        self,
        split: str,
        task: TaskName | None,
        path: Path,
        queries: Rows,
        local: Rows,
        known: Hashes,
    ) -> None:
        qrels = self._folder.root / "qrels" / split / f"{path.stem}_qrels.txt"
        rows = 0
        if qrels.is_file():
            found = self._read.qrels(qrels, None if task is None else task.task_id, queries)
            rows = found.rows
            for line in found.dids.lines[~is_in(found.dids.hashes, known)].tolist():
                problem = "Its candidate is in no pool of the split."
                self._faults.add("unknown candidate", self._read.at(qrels, line), problem)
            if task is not None:
                answers = np.sort(found.qids.hashes[is_in(found.dids.hashes, local.known)])
                unanswered = ~is_in(queries.ids.hashes, answers)
                for line in queries.ids.lines[unanswered].tolist():
                    problem = "By the qrels, nothing in the task's own pool answers it."
                    self._faults.add("unanswerable query", self._read.at(path, line), problem)
        elif task is not None:
            self._missing(qrels, path)
        name = path.stem.removeprefix("mbeir_").removesuffix(f"_{split}")
        shown = np.union1d(queries.images, local.images)
        counts = (len(queries.ids), len(local.ids), rows, len(shown))
        self._tasks.append(TaskCount(split, name, *counts))

    def _pool(self, pool: Path, needed_by: Path) -> Rows:
        if pool not in self._pools:
            self._missing(pool, needed_by)
            self._pools[pool] = Rows()
        return self._pools[pool]

    def _missing(self, path: Path, needed_by: Path) -> None:
        problem = f"{self._read.at(needed_by)} needs it."
        self._faults.add("missing file", self._read.at(path), problem)


def _sorted(parts: list[Hashes]) -> Hashes:
    return np.sort(np.concatenate(parts))
