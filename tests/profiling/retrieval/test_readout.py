"""Retrieval by every cut from one pass, against the models really cut there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from puma_cli.data.mbeir import MbeirFolder
from puma_cli.errors import NumericError
from puma_cli.evaluation.results import Scores
from puma_cli.evaluation.scoring import evaluate_embedder
from puma_cli.models.embedder import Embedder
from puma_cli.models.head import Head
from puma_cli.models.opening import load
from puma_cli.profiling.bridges.bridge import (
    Bridge,
    block_size,
    fit_bridges,
    moments_bytes,
    passes_needed,
)
from puma_cli.profiling.bridges.training_rows import bridge_rows
from puma_cli.profiling.retrieval.readout import METRICS, Readout, read_out_depths
from puma_cli.profiling.sampling import Sample, draw_sample
from tests.headed import add_head

DEPTH = 4
FIRST = {k: tuple(range(k)) for k in range(1, DEPTH + 1)}
LAST = {k: (*range(k - 1), DEPTH - 1) for k in range(2, DEPTH)}


def sample_of(folder: Path, split: str = "val", **changes: int) -> Sample:
    asked: dict[str, int] = {"samples": 10_000, "pool": 10_000} | changes
    return draw_sample(MbeirFolder(folder), split, samples=asked["samples"], pool=asked["pool"])


def fitted(embedder: Embedder, folder: Path) -> dict[str, list[Bridge]]:
    fit, judged = bridge_rows(MbeirFolder(folder), 200, 0.2, 0)
    cuts = [FIRST[k] for k in range(1, DEPTH)], list(LAST.values())
    found = fit_bridges(embedder, [*cuts[0], *cuts[1]], fit, judged, batch_size=64)
    bridges = list(found)
    return {"bridged": bridges[:3], "keep_last_bridged": bridges[3:]}


@pytest.fixture(scope="module")
def sample(tiny_scenes: Path) -> Sample:
    return sample_of(tiny_scenes)


@pytest.fixture(scope="module")
def bridges(embedder: Embedder, tiny_scenes: Path) -> dict[str, list[Bridge]]:
    return fitted(embedder, tiny_scenes)


@pytest.fixture(scope="module")
def readout(embedder: Embedder, sample: Sample, bridges: dict[str, list[Bridge]]) -> Readout:
    return read_out_depths(embedder, sample, bridges, batch_size=24)


def really_cut(
    embedder: Embedder, folder: Path, kept: Sequence[int], bridge: Bridge | None
) -> Scores:
    """Score the model that has only the layers `kept`, and a head where there is a bridge."""
    with embedder.layers(kept):
        if bridge is not None:
            embedder.head = Head(bridge.weight, bridge.bias)
        try:
            return evaluate_embedder(embedder, folder, split="val", batch_size=24)
        finally:
            embedder.head = None


def same_scores(readout: Readout, reading: str, k: int, scores: Scores) -> None:
    for row in readout.tasks:
        for metric in METRICS:
            assert row.scores[reading][metric][k] == pytest.approx(
                scores.row(row.task).score(metric), abs=1e-9
            ), (row.task, metric)


@pytest.mark.parametrize("k", FIRST)
def test_first_layers_score_like_the_model_cut_there(
    embedder: Embedder, tiny_scenes: Path, readout: Readout, k: int
) -> None:
    same_scores(readout, "first", k, really_cut(embedder, tiny_scenes, FIRST[k], None))


@pytest.mark.parametrize("k", LAST)
def test_kept_last_layers_score_like_the_model_with_those(
    embedder: Embedder, tiny_scenes: Path, readout: Readout, k: int
) -> None:
    same_scores(readout, "keep_last", k, really_cut(embedder, tiny_scenes, LAST[k], None))


@pytest.mark.parametrize(
    ("reading", "k"), [("bridged", 1), ("bridged", 3), ("keep_last_bridged", 2)]
)
def test_bridges_score_like_the_cut_with_that_head(
    embedder: Embedder,
    tiny_scenes: Path,
    readout: Readout,
    bridges: Mapping[str, list[Bridge]],
    reading: str,
    k: int,
) -> None:
    bridge = next(found for found in bridges[reading] if found.fit.k == k)
    scores = really_cut(embedder, tiny_scenes, bridge.fit.kept, bridge)
    same_scores(readout, reading, k, scores)


def test_a_cut_on_the_full_models_index(
    embedder: Embedder, sample: Sample, readout: Readout
) -> None:
    """Query vectors of the cut, candidate vectors of the whole, ranked here naively."""
    candidates = embedder.encode(sample.candidates)
    with embedder.layers([0, 1]):
        queries = embedder.encode(sample.queries)
    for place, row in enumerate(readout.tasks):
        hits = []
        task = sample.tasks[place]
        pool = candidates[list(task.candidates)]
        for query, relevant in zip(task.queries, task.relevant, strict=True):
            scores = pool @ queries[query]
            best = scores[list(relevant)].max()
            scores[list(relevant)] = -1.0
            hits.append(float((scores >= best - 1e-6).sum() == 0))
        assert row.scores["first_to_full"]["hit@1"][2] == pytest.approx(np.mean(hits), abs=1e-9)


def test_at_full_depth_every_reading_is_the_model_itself(readout: Readout) -> None:
    for row in readout.tasks:
        assert set(row.scores) == {
            "first", "first_to_full", "bridged", "bridged_to_full", "keep_last", "keep_last_bridged"
        }  # fmt: skip
        for metric in METRICS:
            assert len({scores[metric][-1] for scores in row.scores.values()}) == 1


def test_a_depth_without_a_reading_retrieves_nothing(readout: Readout) -> None:
    # At depth 0 the embed token is the same for every input: all tie, and ties lose.
    for row in readout.tasks:
        for name, scores in row.scores.items():
            assert scores["hit@5"][0] == 0.0
            if name.startswith("keep_last"):
                assert scores["hit@5"][1] == 0.0


def test_hits_are_those_of_the_scores(readout: Readout) -> None:
    for name, tasks in readout.hits.items():
        for row, hits in zip(readout.tasks, tasks, strict=True):
            assert hits.shape == (row.queries, DEPTH + 1)
            assert tuple(hits.mean(axis=0)) == pytest.approx(row.scores[name]["hit@1"])


def test_batches_do_not_matter(
    embedder: Embedder, sample: Sample, bridges: dict[str, list[Bridge]], readout: Readout
) -> None:
    again = read_out_depths(embedder, sample, bridges, batch_size=7)
    assert again.tasks == readout.tasks
    for ours, theirs in zip(again.similarity, readout.similarity, strict=True):
        assert (ours.side, ours.modality, ours.count) == (
            theirs.side,
            theirs.modality,
            theirs.count,
        )
        assert ours.block_influence == pytest.approx(theirs.block_influence, abs=1e-5)


def test_groups_of_similarity(sample: Sample, readout: Readout) -> None:
    found = {(entry.place, entry.side, entry.modality): entry for entry in readout.similarity}
    kinds = ("text", "image", "image,text")
    sides = {"query": sample.queries, "candidate": sample.candidates}
    assert len(found) == len(readout.similarity)
    for side, inputs in sides.items():
        for kind in kinds:
            count = sum(entry.modality == kind for entry in inputs)
            assert found["embed", side, kind].count == count > 0
            assert found["embed", side, kind].cka is not None
            tokens = found["tokens", side, kind]
            assert 0 < tokens.count + tokens.excluded <= 4 * count


def test_bridges_fitted_in_blocks_are_those_of_one_pass(
    embedder: Embedder, tiny_scenes: Path, bridges: dict[str, list[Bridge]]
) -> None:
    fit, judged = bridge_rows(MbeirFolder(tiny_scenes), 200, 0.2, 0)
    together = [*bridges["bridged"], *bridges["keep_last_bridged"]]
    cuts = [bridge.fit.kept for bridge in together]
    one = moments_bytes(embedder.width, embedder.dimension)
    # Room for four of five cuts: two passes, of three and two.
    assert passes_needed(5, embedder.width, embedder.dimension, 4 * one) == 2
    assert block_size(5, embedder.width, embedder.dimension, 4 * one) == 3
    found = list(fit_bridges(embedder, cuts, fit, judged, batch_size=64, budget=4 * one))
    assert [bridge.fit.kept for bridge in found] == cuts
    for ours, theirs in zip(found, together, strict=True):
        assert torch.equal(ours.weight, theirs.weight) and torch.equal(ours.bias, theirs.bias)
        assert ours.fit == theirs.fit


def test_without_bridges_keep_last_and_tokens(embedder: Embedder, sample: Sample) -> None:
    found = read_out_depths(embedder, sample, {}, keep_last=False, tokens=False)
    assert set(found.hits) == {"first", "first_to_full"}
    assert {entry.place for entry in found.similarity} == {"embed"}
    assert all(entry.cka is None for entry in found.similarity)


@pytest.mark.parametrize("outputs", [32, 20, 50])
def test_a_head_counts_at_full_depth_alone(
    tiny_checkpoint: Path, tiny_scenes: Path, readout: Readout, tmp_path: Path, outputs: int
) -> None:
    headed = load(add_head(tiny_checkpoint, tmp_path / "headed", outputs), "cpu")
    bridges = fitted(headed, tiny_scenes)
    found = read_out_depths(headed, sample_of(tiny_scenes), bridges, batch_size=24)
    scores = evaluate_embedder(headed, tiny_scenes, split="val", batch_size=24)
    same_scores(found, "first", DEPTH, scores)
    for ours, theirs in zip(found.tasks, readout.tasks, strict=True):
        assert ours.scores["first"]["hit@1"][:-1] == theirs.scores["first"]["hit@1"][:-1]
    # A cut's own vectors and the head's are of one length or cannot be compared.
    assert ("first_to_full" in found.hits) == (outputs == 32)
    assert "bridged_to_full" in found.hits
    bridge = bridges["bridged"][1]
    with headed.layers([0, 1]):
        headed.head = Head(bridge.weight, bridge.bias)
        scores = evaluate_embedder(headed, tiny_scenes, split="val", batch_size=24)
    same_scores(found, "bridged", 2, scores)


def test_training_mode_is_restored(embedder: Embedder, data_folder: Path) -> None:
    embedder.model.train()
    try:
        read_out_depths(embedder, sample_of(data_folder), {})
        assert embedder.model.training
    finally:
        embedder.model.eval()


def test_broken_weights_are_named(embedder: Embedder, data_folder: Path) -> None:
    weight = embedder.decoder.layers[1].mlp.down_proj.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0] = torch.nan
    try:
        with pytest.raises(NumericError, match="decoder layer 1 is not finite"):
            read_out_depths(embedder, sample_of(data_folder), {}, keep_last=False, tokens=False)
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def test_one_modality_alone_is_enough(embedder: Embedder, data_folder: Path) -> None:
    """Text queries for text candidates: no image on either side."""
    data = MbeirFolder(data_folder)
    sample = draw_sample(data, "val", "*_task0", samples=100, pool=100)
    found = read_out_depths(embedder, sample, {})
    assert {entry.modality for entry in found.similarity if entry.side == "query"} == {"text"}
