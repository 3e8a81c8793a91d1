"""The row of the token that embeddings are read at trains alone, and the teacher never sees it."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from puma_cli.config.lora_settings import LoraSettings
from puma_cli.config.training_settings import DistillSettings, LossSettings, TrainSettings
from puma_cli.distillation.distill import distill
from puma_cli.distillation.embed_token import EmbedTokenRow
from puma_cli.distillation.pair import Pair
from puma_cli.errors import ConfigError
from puma_cli.interruption import Stopped
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from tests.distillation.test_distill import SignalAt
from tests.distillation.test_pair import cut

TABLE = "language_model.embed_tokens.weight"

ROW = TrainSettings(train_embed_token=True)
INPUTS = [Input(text="small red circle"), Input(text="on white", instruction="Find it.")]
RANKS = pytest.mark.parametrize("rank", [0, 4])


def token_of(embedder: Embedder) -> int:
    return int(embedder.tokenizer.convert_tokens_to_ids(embedder.settings.embed_token))


def pair_of(folder: Path, rank: int, kept: Sequence[int] = (0, 1)) -> Pair:
    lora = LoraSettings(rank=rank, alpha=8, dropout=0.0)
    return Pair(cut(folder, list(kept)), load(folder, "cpu"), kept, lora, ROW)


@RANKS
def test_only_the_row_moves_and_only_the_student_sees_it(tiny_checkpoint: Path, rank: int) -> None:
    alone, plain = load(tiny_checkpoint, "cpu"), cut(tiny_checkpoint, [0, 1])
    token, batch = token_of(alone), alone.collate(INPUTS)
    pair = pair_of(tiny_checkpoint, rank)
    assert pair.shared == bool(rank)
    # One table in memory in either case.
    assert pair.teacher is not None
    assert pair.teacher.decoder.embed_tokens is pair.embedder.decoder.embed_tokens
    # A model that trains computes more than is read, so the last digits are others.
    with torch.no_grad():
        ours, theirs = pair.embed(batch, None, with_teacher=True)
        assert theirs is not None
        assert_close(ours, plain.embed(batch))
        row = dict(pair.model.named_parameters())["embed_token.row"]
        row.add_(1.0)
        moved, theirs = pair.embed(batch, None, with_teacher=True)
        assert theirs is not None and not torch.allclose(moved, ours)
        assert_close(theirs, alone.embed(batch))
        # What the student is with the row in its table.
        plain.decoder.embed_tokens.weight[token] += 1.0
        assert_close(moved, plain.embed(batch))
        exported = pair.export()
        assert_close(exported.embed(batch), moved)
    before = alone.decoder.embed_tokens.weight
    other = (exported.decoder.embed_tokens.weight != before).any(dim=1).nonzero().flatten()
    assert other.tolist() == [token]
    assert torch.equal(pair.embedder.decoder.embed_tokens.weight, before)


@RANKS
def test_its_gradient_is_that_of_the_row_in_a_table_that_trains(
    tiny_checkpoint: Path, rank: int
) -> None:
    pair, plain = pair_of(tiny_checkpoint, rank), cut(tiny_checkpoint, [0, 1])
    batch = plain.collate(INPUTS)
    pair.embed(batch, None, with_teacher=False)[0].square().sum().backward()
    plain.embed(batch).square().sum().backward()
    row = dict(pair.model.named_parameters())["embed_token.row"]
    table = plain.decoder.embed_tokens.weight.grad
    assert row.grad is not None and row.grad.any()
    torch.testing.assert_close(row.grad, table[token_of(plain)], rtol=1e-4, atol=1e-5)
    assert pair.embedder.decoder.embed_tokens.weight.grad is None


def test_it_stands_in_wherever_the_token_occurs_and_trains_in_float32() -> None:
    table = torch.nn.Embedding(4, 2).to(torch.bfloat16)
    row = EmbedTokenRow(table, 2)
    assert row.row.dtype is torch.float32
    with torch.no_grad():
        row.row.copy_(torch.tensor([1.0, 2.0]))
    ids = torch.tensor([[2, 0, 2], [3, 1, 2]])
    off = table(ids)
    with row.on():
        on = table(ids)
    assert on.dtype is torch.bfloat16 and torch.equal(table(ids), off)
    here = ids == 2
    assert torch.equal(on[here], torch.tensor([[1.0, 2.0]] * 3, dtype=torch.bfloat16))
    assert torch.equal(on[~here], off[~here])


@RANKS
def test_a_training_with_rates_by_layer_saves_the_row_and_resumes_to_the_bit(
    settings: DistillSettings, pruned: Path, tmp_path: Path, rank: int
) -> None:
    whole = replace(
        settings,
        lora=LoraSettings(rank=rank, alpha=8, dropout=0.1 if rank else 0.0),
        optimizer=replace(settings.optimizer, layer_decay=0.7, first_layer_scale=0.5),
        train=replace(settings.train, train_embed_token=True),
        output_dir=tmp_path / "whole",
    )
    assert distill(whole).finished
    parts = replace(whole, output_dir=tmp_path / "parts")
    with pytest.raises(Stopped, match="after step 4 of 6"):
        distill(parts, SignalAt(4, signal.SIGTERM))
    plain = replace(whole.optimizer, layer_decay=1.0)
    with pytest.raises(ConfigError, match=r"optimizer\.layer_decay 0\.7, not 1\.0"):
        distill(replace(parts, resume=True, optimizer=plain))
    assert distill(replace(parts, resume=True)).finished
    token, before = token_of(load(pruned, "cpu")), load_file(pruned / "model.safetensors")
    for name in (".", "last"):
        expected = load_file(tmp_path / "whole" / name / "model.safetensors")
        found = load_file(tmp_path / "parts" / name / "model.safetensors")
        assert expected.keys() == found.keys() == before.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)
        changed = (found[TABLE] != before[TABLE]).any(dim=1).nonzero().flatten()
        assert changed.tolist() == [token]


def test_layers_learn_at_their_rates_in_a_real_training(
    settings: DistillSettings, pruned: Path
) -> None:
    """AdamW's first step has the length of the rate, whatever the gradient."""
    rated = replace(
        settings,
        loss=LossSettings(contrastive="info_nce", cosine=0.5),
        optimizer=replace(settings.optimizer, warmup=0.0, eps=1e-30, layer_decay=0.5),
        train=replace(settings.train, steps=1, train_embed_token=True, validation_limit=0),
    )
    distill(rated)
    before = load_file(pruned / "model.safetensors")
    after = load_file(settings.output_dir / "model.safetensors")
    moved = {name: float((after[name] - before[name]).abs().median()) for name in before}
    rate = settings.optimizer.learning_rate
    assert moved["language_model.layers.0.mlp.up_proj.weight"] == pytest.approx(rate / 2, rel=1e-2)
    assert moved["language_model.layers.1.mlp.up_proj.weight"] == pytest.approx(rate, rel=1e-2)
    assert moved["language_model.norm.weight"] == pytest.approx(rate, rel=1e-2)
    row = (after[TABLE] - before[TABLE])[token_of(load(pruned, "cpu"))]
    assert float(row.abs().median()) == pytest.approx(rate / 4, rel=1e-2)
