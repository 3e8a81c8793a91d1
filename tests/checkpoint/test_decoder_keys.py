"""The decoder is found in every layout that checkpoints come in."""

from __future__ import annotations

import pytest

from puma_cli.checkpoint import decoder_keys
from puma_cli.checkpoint.decoder_keys import find_decoder
from puma_cli.errors import CheckpointError


@pytest.mark.parametrize("stem", ["language_model.", "model.", "model.language_model.", ""])
def test_the_prefix_is_read_from_the_names(stem: str) -> None:
    names = [f"{stem}layers.{i}.self_attn.q_proj.weight" for i in range(12)]
    names += [
        f"{stem}embed_tokens.weight",
        f"{stem}norm.weight",
        "lm_head.weight",
        "visual.blocks.0.attn.proj.weight",
        "vision_tower.encoder.layers.0.norm.weight",
    ]
    decoder = find_decoder(names)
    assert decoder.prefix == f"{stem}layers."
    assert decoder.depth == 12
    assert decoder.layer_of(names[11]) == 11
    assert decoder.layer_of(names[-1]) is None
    assert decoder.renumbered(names[11], 3) == names[3]
    assert [decoder.part_of(name) for name in names[11:]] == [
        decoder_keys.LAYERS,
        decoder_keys.EMBEDDINGS,
        decoder_keys.NORM,
        decoder_keys.HEAD,
        decoder_keys.VISION,
        decoder_keys.VISION,
    ]


def test_a_missing_layer_or_an_unclear_decoder_is_refused() -> None:
    with pytest.raises(CheckpointError, match="lacks decoder layer 1 of 3"):
        find_decoder(["layers.0.w", "layers.2.w"])
    with pytest.raises(CheckpointError, match=r"a\.layers\., b\.layers\."):
        find_decoder(["a.layers.0.w", "b.layers.0.w"])
    with pytest.raises(CheckpointError, match="none"):
        find_decoder(["classifier.weight"])
