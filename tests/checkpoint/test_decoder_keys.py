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


def test_the_decoder_is_the_stack_beside_the_token_embeddings() -> None:
    stacks = ("audio.encoder.", "model.", "perceiver.", "vision_tower.encoder.", "mtp.")
    names = [f"{stack}layers.{i}.w" for stack in stacks for i in range(3)]
    with pytest.raises(CheckpointError, match="cannot be told"):
        find_decoder(names)
    assert find_decoder([*names, "model.embed_tokens.weight"]).prefix == "model.layers."


def test_the_outermost_number_is_the_layers() -> None:
    name = "model.layers.1.mlp.layers.7.experts.0.w"
    decoder = find_decoder(["model.layers.0.w", name])
    assert (decoder.depth, decoder.layer_of(name)) == (2, 1)
    assert decoder.renumbered(name, 0) == "model.layers.0.mlp.layers.7.experts.0.w"
    # Two spellings of one number would become one name.
    assert decoder.layer_of("model.layers.01.w") is None


def test_parts_beside_the_decoder_are_told() -> None:
    decoder = find_decoder(["model.layers.0.w"])
    for name, part in (
        ("model.vision_tower.vision_model.encoder.layers.0.w", decoder_keys.VISION),
        ("model.embed_tokens_extend.audio_embed.encoder.w", decoder_keys.AUDIO),
        ("multi_modal_projector.linear_1.weight", decoder_keys.PROJECTOR),
        ("model.connector.modality_projection.proj.weight", decoder_keys.PROJECTOR),
        ("thinker.lm_head.weight", decoder_keys.HEAD),
        ("lm_head.bias", decoder_keys.HEAD),
        ("model.image_newline", decoder_keys.OTHER),
    ):
        assert decoder.part_of(name) == part


def test_a_missing_layer_or_an_unclear_decoder_is_refused() -> None:
    with pytest.raises(CheckpointError, match="lacks decoder layer 1 of 3"):
        find_decoder(["layers.0.w", "layers.2.w"])
    with pytest.raises(CheckpointError, match=r"a\.layers\., b\.layers\."):
        find_decoder(["a.layers.0.w", "b.layers.0.w"])
    with pytest.raises(CheckpointError, match="none"):
        find_decoder(["classifier.weight"])
