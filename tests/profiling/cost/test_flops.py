"""FLOPs at every depth against torch's own counter, which sees every matrix product."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from puma_cli.profiling.cost.flops import count_flops, count_sizes

# Both sides count whole products of integers; only the mean over inputs is divided.
EXACT = 1e-12
LAYERS = 3
IMAGE_TOKEN = 60
# Six query heads share two of keys, and no size is another's double by chance.
TEXT: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 48,
    "intermediate_size": 70,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
}
VISION: dict[str, Any] = {"depth": 3, "num_heads": 2, "patch_size": 4, "temporal_patch_size": 2}
VISION |= {"spatial_merge_size": 2}
TOKENS: dict[str, Any] = {
    "image_token_id": IMAGE_TOKEN,
    "video_token_id": 61,
    "vision_start_token_id": 62,
}
TOKENS |= {"vision_end_token_id": 63}


@pytest.fixture(scope="module")
def qwen2_vl() -> Any:
    from transformers import Qwen2VLConfig, Qwen2VLModel

    vision = {**VISION, "embed_dim": 24, "hidden_size": TEXT["hidden_size"], "mlp_ratio": 3}
    config = Qwen2VLConfig(text_config=TEXT, vision_config=vision, **TOKENS)
    return _visible(Qwen2VLModel(config))


@pytest.fixture(scope="module")
def qwen2_5_vl() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

    # Windows of 4 x 4 patches, in all blocks but the middle one.
    vision = {
        **VISION,
        "hidden_size": 24,
        "intermediate_size": 34,
        "out_hidden_size": TEXT["hidden_size"],
        "window_size": 16,
        "fullatt_block_indexes": [1],
    }
    config = Qwen2_5_VLConfig(text_config=TEXT, vision_config=vision, **TOKENS)
    return _visible(Qwen2_5_VLModel(config))


@pytest.fixture(params=["qwen2_vl", "qwen2_5_vl"])
def model(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def _visible(model: Any) -> Any:
    # Fused attention hides its products from the counter.
    model.set_attn_implementation("eager")
    return model.eval()


@contextmanager
def _cut(model: Any, k: int) -> Iterator[None]:
    full = model.language_model.layers
    model.language_model.layers = nn.ModuleList(full[:k])
    try:
        yield
    finally:
        model.language_model.layers = full


@torch.no_grad()
def _seen(model: Any, k: int, words: int, grid: tuple[int, int] | None) -> int:
    """Return what torch counts for one input of `words` tokens and an image of `grid` patches."""
    height, width = grid or (0, 0)
    ids = torch.tensor([[1] * words + [IMAGE_TOKEN] * (height * width // 4)])
    images: dict[str, Any] = {}
    if grid:
        images["pixel_values"] = torch.randn(height * width, 3 * 2 * 4 * 4)
        images["image_grid_thw"] = torch.tensor([[1, height, width]])
    with _cut(model, k), FlopCounterMode(display=False) as counter:
        model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == IMAGE_TOKEN).int(),
            use_cache=False,
            **images,
        )
    return counter.get_total_flops()


def _lengths(words: int, grid: tuple[int, int] | None) -> tuple[int, int]:
    patches = grid[0] * grid[1] if grid else 0
    return words + patches // 4, patches


@pytest.mark.parametrize("k", range(1, LAYERS + 1))
@pytest.mark.parametrize(
    ("words", "grid"),
    [(1, None), (7, None), (0, (4, 4)), (5, (8, 12)), (11, (4, 8))],
    ids=["token", "text", "image", "both", "small-image"],
)
def test_every_depth_is_what_torch_counts(
    model: Any, k: int, words: int, grid: tuple[int, int] | None
) -> None:
    tokens, patches = _lengths(words, grid)
    counted = count_flops(model, [tokens], [patches])
    assert counted.at(k) == pytest.approx(_seen(model, k, words, grid), rel=EXACT)


def test_vision_is_what_the_tower_alone_takes(model: Any) -> None:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.get_image_features(torch.randn(96, 96), torch.tensor([[1, 8, 12]]), return_dict=True)
    assert counter.get_total_flops() > 0
    counted = count_flops(model, [24], [96])
    assert counted.vision == pytest.approx(counter.get_total_flops(), rel=EXACT)
    assert counted.at(0) == counted.vision
    assert count_flops(model, [24], [0]).vision == 0


def test_images_of_any_size_without_windows(qwen2_vl: Any) -> None:
    words, grid = 3, (6, 10)
    counted = count_flops(qwen2_vl, *([n] for n in _lengths(words, grid)))
    assert counted.at(LAYERS) == pytest.approx(_seen(qwen2_vl, LAYERS, words, grid), rel=EXACT)


def test_windows_at_an_images_edge_count_whole(qwen2_5_vl: Any) -> None:
    words, grid = 3, (6, 10)
    seen = _seen(qwen2_5_vl, LAYERS, words, grid)
    counted = count_flops(qwen2_5_vl, *([n] for n in _lengths(words, grid)))
    # Windows of 4 x 4, 4 x 2, 2 x 4 and 2 x 2 patches, in the two blocks that have windows.
    real = 2 * 16**2 + 8**2 + 2 * 8**2 + 4**2
    assert counted.at(LAYERS) - seen == pytest.approx(2 * 4 * 24 * (60 * 16 - real), rel=1e-9)


def test_mean_over_inputs_of_different_lengths(model: Any) -> None:
    inputs: list[tuple[int, tuple[int, int] | None]] = [(2, None), (19, None), (4, (8, 8))]
    tokens, patches = zip(*(_lengths(*entry) for entry in inputs), strict=True)
    counted = count_flops(model, tokens, patches)
    for k in (1, LAYERS):
        seen = [_seen(model, k, *entry) for entry in inputs]
        assert counted.at(k) == pytest.approx(sum(seen) / 3, rel=EXACT)
    # Attention is not linear: a mean length would not do.
    assert counted.layer > 1.001 * count_flops(model, [sum(tokens) // 3], [0]).layer


def test_counts_of_two_different_lists(qwen2_vl: Any) -> None:
    with pytest.raises(ValueError, match="2 counts of tokens and 1 of patches"):
        count_flops(qwen2_vl, [3, 4], [0])


@pytest.fixture(scope="module")
def own(tiny_checkpoint: Path) -> Embedder:
    embedder = load(tiny_checkpoint, "cpu")
    _visible(embedder.model)
    return embedder


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[Input]:
    folder = tmp_path_factory.mktemp("pictures")
    for name, size in (("wide", (84, 28)), ("square", (56, 56))):
        Image.new("RGB", size, "red").save(folder / f"{name}.png")
    return [
        Input(text="a small circle"),
        Input(image=folder / "wide.png"),
        Input(text="find it, quickly", instruction="look for it"),
        Input(text="like this", image=folder / "square.png", instruction="find"),
    ]


def test_sizes_of_a_batch_leave_padding_out(own: Embedder, inputs: list[Input]) -> None:
    tokens, patches = count_sizes(own.collate(inputs))
    alone = [own.collate([entry]) for entry in inputs]
    assert tokens == [batch.input_ids.shape[1] for batch in alone]
    assert patches == [
        0 if batch.pixel_values is None else len(batch.pixel_values) for batch in alone
    ]
    assert patches[0] == patches[2] == 0
    assert 0 < patches[1] != patches[3] > 0
    assert len(set(tokens)) > 1
    assert count_sizes(own.collate(inputs[:1])) == (tokens[:1], [0])


@torch.no_grad()
def test_an_embedders_own_batches(own: Embedder, inputs: list[Input]) -> None:
    counted = count_flops(own.model, *count_sizes(own.collate(inputs)))
    batches = [own.collate([entry]) for entry in inputs]
    for k in range(1, own.depth + 1):
        with own.layers(range(k)), FlopCounterMode(display=False) as counter:
            for batch in batches:
                own.post_norm_states(batch)
        assert counted.at(k) == pytest.approx(counter.get_total_flops() / len(inputs), rel=EXACT)
