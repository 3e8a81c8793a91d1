"""Retrieval at every depth from one pass, against the model really cut there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from puma_cli.data.mbeir import MbeirFolder
from puma_cli.errors import DataError, NumericError
from puma_cli.evaluation.evaluate import evaluate_embedder
from puma_cli.models.embedder import Embedder, load
from puma_cli.models.inputs import Input
from puma_cli.profiling.profile import TaskReadout
from puma_cli.profiling.readout import DepthEncoder, read_out_depths, storage
from puma_cli.profiling.similarity import LayerSimilarity
from tests.headed import add_head

Measured = tuple[tuple[TaskReadout, ...], tuple[LayerSimilarity, ...], bool]


@pytest.fixture(scope="module")
def measured(embedder: Embedder, data_folder: Path) -> Measured:
    return read_out_depths(embedder, MbeirFolder(data_folder), batch_size=4)


def test_each_depth_scores_like_the_model_cut_there(
    embedder: Embedder, data_folder: Path, measured: Measured
) -> None:
    readout, _, partial = measured
    assert not partial
    for k in range(1, embedder.depth + 1):
        with embedder.layers(range(k)):
            scores = evaluate_embedder(embedder, data_folder, split="val", batch_size=4)
        for row in readout:
            for metric in ("hit@1", "hit@5", "mrr@10"):
                assert row.scores[metric][k] == pytest.approx(
                    scores.row(row.task).score(metric), abs=1e-9
                )


def test_depth_zero_knows_nothing(measured: Measured) -> None:
    # The embedding of the embed token is the same for every input: all tie, ties lose.
    assert all(row.scores["hit@5"][0] == 0.0 for row in measured[0])


def test_tasks_and_groups(measured: Measured) -> None:
    readout, similarity, _ = measured
    assert [(row.task, row.queries, row.candidates) for row in readout] == [
        ("tiny_task0", 6, 6),
        ("tiny_task6", 6, 6),
    ]
    assert [(entry.side, entry.modality, entry.count) for entry in similarity] == [
        ("query", "text", 6),
        ("query", "image,text", 6),
        ("candidate", "text", 6),
        ("candidate", "image", 6),
    ]


def test_limit_is_told(embedder: Embedder, data_folder: Path) -> None:
    readout, _, partial = read_out_depths(
        embedder, MbeirFolder(data_folder), tasks="*_task0", limit=2
    )
    assert partial
    assert [(row.queries, row.candidates) for row in readout] == [(2, 6)]


def test_vectors_are_the_read_out_of_each_depth(embedder: Embedder) -> None:
    inputs = [Input(text="red"), Input(text="a long text about green"), Input(text="blue")]
    vectors = DepthEncoder(embedder, "query").encode(inputs, batch_size=2)
    assert vectors.shape == (3, embedder.depth + 1, embedder.dimension)
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(vectors.shape[:2]), atol=1e-5)
    assert torch.allclose(vectors[:, -1], embedder.encode(inputs), atol=1e-5)


@pytest.mark.parametrize("outputs", [32, 20, 50])
def test_a_head_counts_at_full_depth_alone(
    tiny_checkpoint: Path, embedder: Embedder, tmp_path: Path, outputs: int
) -> None:
    inputs = [Input(text="red"), Input(text="a long text about green"), Input(text="blue")]
    headed = load(add_head(tiny_checkpoint, tmp_path / "headed", outputs), "cpu")
    plain = DepthEncoder(embedder, "query").encode(inputs, batch_size=2)
    vectors = DepthEncoder(headed, "query").encode(inputs, batch_size=2)
    assert vectors.shape == (3, embedder.depth + 1, max(32, outputs))
    assert torch.equal(vectors[:, :-1, :32], plain[:, :-1])
    torch.testing.assert_close(vectors[:, -1, :outputs], headed.encode(inputs))
    # Filled up with zeros, which no cosine sees.
    assert not vectors[:, :-1, 32:].any() and not vectors[:, -1, outputs:].any()


def test_training_mode_is_restored(embedder: Embedder, data_folder: Path) -> None:
    embedder.model.train()
    try:
        read_out_depths(embedder, MbeirFolder(data_folder), tasks="*_task0", limit=1)
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
            read_out_depths(embedder, MbeirFolder(data_folder), tasks="*_task0", limit=1)
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def test_memory_is_bounded() -> None:
    assert storage(10**6) is torch.float32
    assert storage(10**9) is torch.float16
    with pytest.raises(DataError, match="200 GB"):
        storage(10**11)
