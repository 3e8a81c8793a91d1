"""One pass reads what running each cut on its own would give."""

from __future__ import annotations

import pytest
import torch

from puma_cli.errors import NumericError
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.processing import Batch
from puma_cli.profiling.states.depth_states import read_states
from tests.residual_stream import residual_states

TEXTS = ["red", "a much longer text about small green squares on sand", "blue, or not blue"]


@pytest.fixture(scope="module")
def batch(embedder: Embedder, data_folder: object) -> Batch:
    from pathlib import Path

    image = Path(str(data_folder)) / "mbeir_images" / "red.png"
    inputs = [Input(text=text) for text in TEXTS]
    inputs += [Input(image=image), Input(text="Its name?", image=image, instruction="Say.")]
    return embedder.collate(inputs)


def test_states_at_the_embed_token_are_the_embedders_own(embedder: Embedder, batch: Batch) -> None:
    assert torch.equal(read_states(embedder, batch).embed, residual_states(embedder, batch))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_keep_last_is_the_model_with_those_layers(embedder: Embedder, batch: Batch, k: int) -> None:
    states = read_states(embedder, batch, keep_last=True).keep_last
    assert states is not None
    with embedder.layers([*range(k - 1), embedder.depth - 1]), torch.no_grad():
        expected = embedder.post_norm_states(batch)
    torch.testing.assert_close(embedder.read_out(states[k]), expected, rtol=1e-4, atol=1e-5)
    if k < embedder.depth:
        # It is another cut than the first k layers.
        first = embedder.read_out(read_states(embedder, batch).embed[k])
        assert not torch.allclose(first, expected, atol=1e-2)


def test_further_tokens_are_read_row_by_row(embedder: Embedder, batch: Batch) -> None:
    places = torch.full((len(batch.last), 2), -1)
    places[1] = torch.tensor([3, 5])
    places[4, 1] = 2
    tokens = read_states(embedder, batch, places).tokens
    assert tokens is not None and tokens.shape[:2] == (embedder.depth + 1, 3)
    # A causal model's state at a token is what it would be if the text ended there.
    for row, (entry, place) in enumerate([(1, 3), (1, 5), (4, 2)]):
        cut = Batch(**{**vars(batch), "last": torch.full_like(batch.last, place)})
        expected = residual_states(embedder, cut)[:, entry]
        torch.testing.assert_close(tokens[:, row], expected)


def test_padding_does_not_matter(embedder: Embedder, batch: Batch) -> None:
    alone = embedder.collate([Input(text=TEXTS[0])])
    ours, theirs = (read_states(embedder, b, keep_last=True) for b in (alone, batch))
    assert ours.keep_last is not None and theirs.keep_last is not None
    torch.testing.assert_close(ours.embed[:, 0], theirs.embed[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.keep_last[:, 0], theirs.keep_last[:, 0], rtol=1e-4, atol=1e-5)


def test_a_layer_of_another_kind_is_noticed(
    embedder: Embedder, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention = embedder.decoder.layers[-1].self_attn
    monkeypatch.setattr(
        "puma_cli.profiling.states.last_layer._turned", lambda states, cos, sin: states
    )
    assert attention.head_dim > 2
    with pytest.raises(NumericError, match="not those of Qwen2-VL"):
        read_states(embedder, batch, keep_last=True)


def test_hooks_are_removed(embedder: Embedder, batch: Batch) -> None:
    read_states(embedder, batch, keep_last=True)
    assert not any(
        layer._forward_hooks or layer._forward_pre_hooks for layer in embedder.decoder.layers
    )
