"""The embedder against the stock model, and what it refuses to open."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize

from puma_cli.data.mbeir import MbeirFolder
from puma_cli.errors import CheckpointError, ConfigError, DeviceError
from puma_cli.models.devices import choose_device, choose_dtype
from puma_cli.models.embedder import Embedder
from puma_cli.models.embedder_settings import settings_for
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from tests.residual_stream import residual_states


@pytest.fixture(scope="module")
def embedder(tiny_checkpoint: Path) -> Embedder:
    return load(tiny_checkpoint, "cpu")


@pytest.fixture(scope="module")
def inputs(tiny_scenes: Path) -> list[Input]:
    data = MbeirFolder(tiny_scenes)
    return [
        query.to_input(data.instructions.pick(query))
        for task in data.tasks("test")
        for query in data.queries("test", task)[:3]
    ]


def test_one_input_alone_through_the_stock_model_gives_the_same_vector(
    embedder: Embedder, inputs: list[Input]
) -> None:
    """Without puma's batching, positions or pooling: the stock forward pass, row by row."""
    vectors = embedder.encode(inputs, batch_size=5)
    for entry, vector in zip(inputs, vectors, strict=True):
        batch = embedder.collate([entry])
        arguments: dict[str, Any] = {"input_ids": batch.input_ids}
        arguments["mm_token_type_ids"] = batch.token_types
        if batch.pixel_values is not None:
            arguments |= {"pixel_values": batch.pixel_values, "image_grid_thw": batch.image_grid}
        with torch.no_grad():
            stock = embedder.model(**arguments).last_hidden_state[0, -1]
        torch.testing.assert_close(normalize(stock, dim=0), vector, rtol=0, atol=2e-6)


def test_encode_keeps_the_order_whatever_the_batch_size(
    embedder: Embedder, inputs: list[Input]
) -> None:
    whole, parts = (embedder.encode(inputs, batch_size=size) for size in (64, 3))
    torch.testing.assert_close(whole, parts, rtol=0, atol=2e-6)
    assert torch.allclose(whole.norm(dim=1), torch.ones(len(inputs)))


def test_hidden_states_end_where_the_embedding_begins(
    embedder: Embedder, inputs: list[Input]
) -> None:
    batch = embedder.collate(inputs)
    states = residual_states(embedder, batch)
    assert states.shape == (embedder.depth + 1, len(inputs), embedder.dimension)
    with torch.no_grad():
        torch.testing.assert_close(embedder.read_out(states[-1]), embedder.embed(batch))


@pytest.mark.parametrize("kept", [[0], [0, 1], [0, 1, 2, 3]])
def test_running_the_first_layers_is_the_read_out_at_that_depth(
    embedder: Embedder, inputs: list[Input], kept: list[int]
) -> None:
    batch = embedder.collate(inputs)
    expected = embedder.read_out(residual_states(embedder, batch)[len(kept)])
    with embedder.layers(kept), torch.no_grad():
        torch.testing.assert_close(embedder.embed(batch), expected)
    assert embedder.depth == 4


def test_vision_features_computed_once_serve_several_passes(
    embedder: Embedder, inputs: list[Input]
) -> None:
    batch = embedder.collate(inputs)
    with torch.no_grad():
        vision = embedder.vision_features(batch)
        assert torch.equal(embedder.embed(batch, vision), embedder.embed(batch))


def test_saving_and_opening_again_gives_the_same_vectors(
    embedder: Embedder, inputs: list[Input], tmp_path: Path
) -> None:
    embedder.save(tmp_path)
    again = load(tmp_path, "cpu")
    assert torch.equal(again.encode(inputs), embedder.encode(inputs))
    assert again.settings == embedder.settings


def test_saving_in_half_precision_halves_the_file(
    embedder: Embedder, inputs: list[Input], tmp_path: Path
) -> None:
    whole, half = tmp_path / "whole", tmp_path / "half"
    for folder, dtype in ((whole, "auto"), (half, "float16")):
        folder.mkdir()
        load(embedder.folder, "cpu").save(folder, dtype)  # type: ignore[arg-type]
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (whole, half)]
    assert sizes[1] < 0.6 * sizes[0]
    torch.testing.assert_close(
        load(half, "cpu").encode(inputs), embedder.encode(inputs), rtol=0, atol=5e-3
    )


def test_a_missing_unexpected_or_misshapen_weight_is_an_error(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    state = load_file(tiny_checkpoint / "model.safetensors")
    name = "language_model.layers.3.mlp.up_proj.weight"
    without = {key: value for key, value in state.items() if key != name}
    cases = {
        f"lacks the weight {name}": without,
        "has the unexpected weight language_model.odd": state
        | {"language_model.odd": state[name].clone()},
    }
    for says, changed in cases.items():
        folder = tmp_path / says.split()[0]
        shutil.copytree(tiny_checkpoint, folder)
        save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match=says):
            load(folder, "cpu")
    folder = tmp_path / "shape"
    shutil.copytree(tiny_checkpoint, folder)
    changed = state | {name: state[name][:-1].clone()}
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="up_proj"):
        load(folder, "cpu")


def test_a_truncated_file_is_an_error(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(tiny_checkpoint, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError):
        load(folder, "cpu")


def test_embedder_json_is_read_strictly(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(tiny_checkpoint, folder)
    path = folder / "embedder.json"
    content = json.loads(path.read_text())
    for change, says in (
        ({"poolng": "last"}, "unknown key 'poolng'"),
        ({"pooling": "max"}, "pooling 'max'"),
        ({"instruction": "after"}, "instruction 'after'"),
        ({"pooling": "eos", "embed_token": ""}, "names no embed_token"),
        ({"min_pixels": "784"}, "min_pixels '784'"),
    ):
        path.write_text(json.dumps(content | change))
        with pytest.raises(CheckpointError, match=says):
            settings_for(folder)
    path.write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        settings_for(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"template": "{% if %}"}, "TemplateSyntaxError"),
        ({"template": "{{ messages[0].role }}"}, "does not end on <|embed|>"),
        ({"template": "<|embed|>"}, "once for an image"),
        ({"embed_token": "<|nope|>"}, "no token <|nope|>"),
    ],
)
def test_a_prompt_that_gives_no_vectors_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, change: dict[str, str], says: str
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "odd"))
    path = folder / "embedder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=r"prompt of .* cannot be used") as caught:
        load(folder, "cpu")
    assert says in caught.value.cause


def test_a_stock_checkpoint_ends_on_a_token_it_was_trained_with(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "stock"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "embedder.json").unlink()
    settings = settings_for(folder)
    assert settings.embed_token == "<|endoftext|>"  # it has no <|im_end|>
    assert settings.template.endswith("<|endoftext|>") and settings.dimension == 32
    vectors = load(folder, "cpu").encode([Input("a circle"), Input("a square")])
    assert vectors.isfinite().all()


def test_devices_and_dtypes_that_are_not_there_are_refused() -> None:
    assert choose_dtype("auto", torch.device("cpu")) == torch.float32
    assert choose_dtype("auto", torch.device("cuda")) == torch.bfloat16
    with pytest.raises(ConfigError, match="'int3' is no dtype"):
        choose_dtype("int3", torch.device("cpu"))
    with pytest.raises(DeviceError, match="'gpu' is no device"):
        choose_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="'cuda' is not there"):
            choose_device("cuda")


def test_a_limit_on_pixels_holds_for_what_is_shown_and_saved(
    tiny_checkpoint: Path, inputs: list[Input], tmp_path: Path
) -> None:
    embedder = load(tiny_checkpoint, "cpu")
    shown = [entry for entry in inputs if entry.image is not None]
    before = embedder.collate(shown)
    least = (embedder.image_processor.patch_size * embedder.image_processor.merge_size) ** 2
    with pytest.raises(ConfigError, match="At most"):
        embedder.limit_pixels(least - 1)
    embedder.limit_pixels(least)
    after = embedder.collate(shown)
    assert before.image_grid is not None and after.image_grid is not None
    assert before.image_grid.prod(dim=1).min() > 4
    assert set(after.image_grid.prod(dim=1).tolist()) == {4}
    embedder.save(tmp_path)
    again = load(tmp_path, "cpu")
    assert again.settings.max_pixels == again.settings.min_pixels == least
    assert torch.equal(again.encode(shown), embedder.encode(shown))
    # A limit never enlarges.
    embedder.limit_pixels(10**9)
    assert embedder.settings.max_pixels == least
