"""A sample passes in rounds: each input once, and a stop keeps whole rounds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from puma_cli.data.mbeir import MbeirFolder
from puma_cli.errors import DataError
from puma_cli.interruption import StopRequest
from puma_cli.models.embedder import Embedder
from puma_cli.models.processing import Batch
from puma_cli.profiling.retrieval import passes
from puma_cli.profiling.retrieval.passes import draw_rounds, storage
from puma_cli.profiling.retrieval.readout import Readout, read_out_depths
from puma_cli.profiling.sampling import Sample, draw_sample

BATCH = 8


class StopAfter(StopRequest):
    """Asks for a stop once so many batches have passed."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.left = batches

    def __bool__(self) -> bool:
        return self.left <= 0


@pytest.fixture(scope="module")
def sample(tiny_scenes: Path) -> Sample:
    return draw_sample(MbeirFolder(tiny_scenes), "val", samples=10_000, pool=10_000)


def stopped_after(
    embedder: Embedder, sample: Sample, batches: int, monkeypatch: pytest.MonkeyPatch
) -> Readout:
    stop = StopAfter(batches)
    collate = embedder.collate

    def counted(inputs: object) -> Batch:
        stop.left -= 1
        return collate(inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(embedder, "collate", counted)
    return read_out_depths(
        embedder, sample, {}, keep_last=False, tokens=False, batch_size=BATCH, stop=stop
    )


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_rounds_hold_everything_once(sample: Sample, size: int) -> None:
    rounds = draw_rounds(sample, size, np.random.default_rng(3))
    queries = [place for asked, _ in rounds for place in asked]
    assert sorted(queries) == list(range(len(sample.queries)))
    assert all(len(asked) <= size for asked, _ in rounds)
    positives = Counter(place for _, new in rounds for place in new)
    assert positives == Counter(range(sample.positives))


def test_a_round_has_all_that_its_queries_need(sample: Sample) -> None:
    seen: set[int] = set()
    for asked, new in draw_rounds(sample, 5, np.random.default_rng(0)):
        seen.update(new)
        for task in sample.tasks:
            for query, relevant in zip(task.queries, task.relevant, strict=True):
                if query in asked:
                    assert {task.candidates[entry] for entry in relevant} <= seen


@pytest.mark.parametrize("batches", [1, 12, 40])
def test_what_a_stop_leaves_is_scored_as_a_sample_of_its_own(
    embedder: Embedder, sample: Sample, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However early the stop: the same numbers come out when only that part is asked for."""
    monkeypatch.setattr(passes, "ROUND_BATCHES", 1)
    found = stopped_after(embedder, sample, batches, monkeypatch)
    monkeypatch.undo()
    part = found.sample
    assert part is not sample and part.partial
    queries = sum(len(task.queries) for task in part.tasks)
    entries = sum(len(task.candidates) for task in part.tasks)
    assert 0 < queries <= sum(len(task.queries) for task in sample.tasks)
    assert 0 < entries < sum(len(task.candidates) for task in sample.tasks)
    again = read_out_depths(embedder, part, {}, keep_last=False, tokens=False)
    assert [(row.task, row.queries, row.candidates) for row in again.tasks] == [
        (row.task, row.queries, row.candidates) for row in found.tasks
    ]
    for name, tasks in again.hits.items():
        for ours, theirs in zip(tasks, found.hits[name], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_later_stop_keeps_every_query(
    embedder: Embedder, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "ROUND_BATCHES", 1)
    rounds = draw_rounds(sample, BATCH, np.random.default_rng(0))
    held = sum(
        len(list(embedder.plan([inputs[place] for place in places], BATCH)))
        for both in rounds
        for inputs, places in zip((sample.queries, sample.candidates), both, strict=True)
    )
    found = stopped_after(embedder, sample, held + 2, monkeypatch)
    assert [len(task.queries) for task in found.sample.tasks] == [
        len(task.queries) for task in sample.tasks
    ]
    seen = {place for task in found.sample.tasks for place in task.candidates}
    assert sample.positives < len(seen) <= sample.positives + 2 * BATCH


def test_without_a_stop_the_sample_stays_whole(embedder: Embedder, sample: Sample) -> None:
    found = read_out_depths(embedder, sample, {}, keep_last=False, tokens=False, stop=StopRequest())
    assert found.sample is sample


def test_memory_is_bounded() -> None:
    assert storage(10**6).itemsize == 4
    assert storage(10**9).itemsize == 2
    with pytest.raises(DataError, match="200 GB"):
        storage(10**11)
