"""Prompts, tokens, pixels and positions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from puma_cli.errors import DataError
from puma_cli.models.embedder import Embedder
from puma_cli.models.embedder_settings import SUMMARY_TEMPLATE
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from puma_cli.models.processing import Processor


@pytest.fixture(scope="module")
def embedder(tiny_checkpoint: Path) -> Embedder:
    return load(tiny_checkpoint, "cpu")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 255, (56, 56, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def processor(embedder: Embedder, **changes: object) -> Processor:
    return Processor(
        embedder.tokenizer,
        embedder.image_processor,
        replace(embedder.settings, **changes),  # type: ignore[arg-type]
        embedder.model.get_rope_index,
    )


def test_the_prompt_puts_the_image_first_and_ends_on_the_embed_token(
    embedder: Embedder, picture: Path
) -> None:
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    prompts = embedder.processor.render(
        [
            Input("A circle.", picture, "Find it."),
            Input("A circle."),
            Input(image=picture),
        ]
    )
    assert prompts == [
        f"{image}Find it.\nA circle.<|embed|>",
        "A circle.<|embed|>",
        f"{image}<|embed|>",
    ]


def test_the_paper_s_prompt_names_what_it_summarises(embedder: Embedder, picture: Path) -> None:
    template = SUMMARY_TEMPLATE.replace("EMBED_TOKEN", "<|im_end|>")
    prompts = processor(embedder, template=template).render(
        [Input("A circle.", picture, "Find it."), Input("A circle."), Input(image=picture)]
    )
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    tail = "in one word: <|im_end|>"
    assert prompts == [
        f"<|im_start|>user\n{image}Find it.\nA circle.\nSummarize above image and sentence {tail}",
        f"<|im_start|>user\nA circle.\nSummarize above sentence {tail}",
        f"<|im_start|>user\n{image}\nSummarize above image {tail}",
    ]


def test_every_row_ends_on_the_embed_token(embedder: Embedder, picture: Path) -> None:
    batch = embedder.collate([Input("A very long text of a circle."), Input(image=picture)])
    embed = embedder.tokenizer.convert_tokens_to_ids("<|embed|>")
    assert batch.input_ids[torch.arange(2), batch.last].tolist() == [embed, embed]
    assert batch.attention_mask.sum(1).tolist() == (batch.last + 1).tolist()


def test_special_tokens_in_a_user_s_text_are_dropped(embedder: Embedder) -> None:
    sly = "a <|image_pad|>circle<|embed|> here<|endoftext|>"
    assert embedder.processor.render([Input(sly)]) == ["a circle here<|embed|>"]
    slyer = "a <|image<|image_pad|>_pad|>circle <|em<|endof<|embed|>text|>bed|>here"
    assert embedder.processor.render([Input(slyer)]) == ["a circle here<|embed|>"]


def test_a_long_text_is_cut_and_keeps_its_embed_token(embedder: Embedder) -> None:
    short = processor(embedder, max_text_tokens=5)
    batch = short.collate([Input("circle " * 50)])
    assert int(batch.attention_mask.sum()) == 5 + 1
    assert short.render([Input("circle " * 50)])[0].endswith("<|embed|>")


def test_positions_are_those_of_the_stock_model(embedder: Embedder, tmp_path: Path) -> None:
    wide = tmp_path / "wide.png"
    Image.new("RGB", (112, 28), "red").save(wide)
    tall = tmp_path / "tall.png"
    Image.new("RGB", (28, 84), "blue").save(tall)
    embedder.image_processor.size = {"shortest_edge": 28 * 28, "longest_edge": 112 * 112}
    inputs = [Input("x", wide), Input("a longer text without image"), Input("y z", tall)]
    batch = processor(embedder).collate(inputs)
    stock, _ = embedder.model.get_rope_index(
        batch.input_ids,
        mm_token_type_ids=batch.token_types,
        image_grid_thw=batch.image_grid,
        attention_mask=batch.attention_mask,
    )
    assert torch.equal(batch.position_ids, stock)
    # A wide and a tall image must not be mistaken for one another.
    assert not torch.equal(batch.position_ids[1, 0], batch.position_ids[2, 0])


def test_images_of_several_sizes_are_together_what_they_are_alone(
    embedder: Embedder, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    shown = []
    for number, size in enumerate([(28, 84), (112, 28), (28, 84), (60, 45)]):
        path = tmp_path / f"{number}.png"
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
        shown.append(Input(image=path))
    shown[2] = Input(image=shown[2].image, view=7)
    order = [shown[i] for i in (3, 0, 2, 1, 0)]
    together = processor(embedder).collate(order)
    alone = [processor(embedder).collate([entry]) for entry in order]
    for name in ("pixel_values", "image_grid"):
        assert torch.equal(
            getattr(together, name), torch.cat([getattr(batch, name) for batch in alone])
        )


def test_pixels_are_the_image_processor_s_and_are_remembered(
    embedder: Embedder, picture: Path
) -> None:
    fresh = processor(embedder)
    batch = fresh.collate([Input(image=picture), Input(image=picture)])
    once = embedder.image_processor(images=[Image.open(picture)], return_tensors="pt")
    assert batch.pixel_values is not None and batch.image_grid is not None
    assert torch.equal(batch.pixel_values, once["pixel_values"].repeat(2, 1))
    picture.unlink()
    again = fresh.collate([Input(image=picture)])
    assert torch.equal(again.pixel_values, once["pixel_values"])  # type: ignore[arg-type]


def test_a_transparent_image_lies_on_white(embedder: Embedder, tmp_path: Path) -> None:
    clear, white = tmp_path / "clear.png", tmp_path / "white.png"
    Image.new("RGBA", (56, 56), (255, 0, 0, 0)).save(clear)
    Image.new("RGB", (56, 56), "white").save(white)
    batch = embedder.collate([Input(image=clear), Input(image=white)])
    assert batch.pixel_values is not None
    first, second = batch.pixel_values.chunk(2)
    assert torch.equal(first, second)


def test_missing_and_broken_images_are_named(embedder: Embedder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.png is missing"):
        embedder.collate([Input(image=tmp_path / "nowhere.png")])
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG no image")
    with pytest.raises(DataError, match=r"broken\.png cannot be decoded"):
        embedder.collate([Input(image=broken)])
    thin = tmp_path / "thin.png"
    Image.new("RGB", (1000, 2)).save(thin)
    with pytest.raises(DataError, match=r"thin\.png cannot be used"):
        embedder.collate([Input(image=thin)])
    good = tmp_path / "good.png"
    Image.new("RGB", (56, 56)).save(good)
    with pytest.raises(DataError, match=r"thin\.png cannot be used"):
        embedder.collate([Input(image=good), Input(image=thin), Input(image=good)])
    bomb = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(bomb)
    with pytest.raises(DataError, match=r"bomb\.png cannot be decoded"):
        embedder.collate([Input(image=bomb)])


def test_of_millions_of_characters_the_same_is_kept_as_of_thousands(tiny_checkpoint: Path) -> None:
    processor = load(tiny_checkpoint, "cpu").processor
    limit = processor.settings.max_text_tokens
    for text in ("small red circle, ", "é", "x", " "):
        some = processor._cut(text * (20 * limit))
        assert processor._cut(text * 1_000_000) == some
        assert 0 < len(some) < len(text) * 20 * limit
