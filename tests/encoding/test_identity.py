"""Whatever changes a vector changes its key, and names do not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from puma_cli.encoding.file_hashes import FileHashes
from puma_cli.encoding.identity import input_keys, model_content
from puma_cli.errors import CheckpointError
from puma_cli.models.inputs import Input


def content(folder: Path, **computed: object) -> str:
    return model_content(folder, FileHashes(), **computed)


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))


def edit_json(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        found = json.loads((folder / name).read_text())
        change(found)
        (folder / name).write_text(json.dumps(found))

    return edit


def one_weight(folder: Path) -> None:
    """The last bit of one number in the middle of a tensor, in a file of the same size and time."""
    path = folder / "model.safetensors"
    before = path.stat()
    tensors = load_file(path)
    name = "language_model.layers.2.mlp.down_proj.weight"
    flat = tensors[name].view(torch.int32).flatten()
    flat[len(flat) // 2 + 77] ^= 1
    save_file(tensors, path, {"format": "pt"})
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "weight": one_weight,
    "template": edit_json("embedder.json", lambda c: c.update(template=" " + c["template"])),
    "pixels": edit_json("embedder.json", lambda c: c.update(max_pixels=c["max_pixels"] + 1)),
    "text tokens": edit_json("embedder.json", lambda c: c.update(max_text_tokens=12)),
    "configuration": edit_json("config.json", lambda c: c.update(rope_theta=1.0)),
    "tokenizer": edit_json("tokenizer.json", lambda c: c.update(added=[])),
    "image processor": edit_json("preprocessor_config.json", lambda c: c.update(do_rescale=False)),
    "chat template": lambda folder: (folder / "chat_template.jinja").write_text("x"),
    "tensor's name": lambda folder: save_file(
        {f"a.{k}": v for k, v in load_file(folder / "model.safetensors").items()},
        folder / "model.safetensors",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_model_is_another_key(folder: Path, change: str) -> None:
    before = content(folder)
    CHANGES[change](folder)
    assert content(folder) != before


def test_how_it_is_computed_is_part_of_the_key(folder: Path) -> None:
    ways: list[dict[str, object]] = [
        {},
        {"dtype": "float32"},
        {"dtype": "bfloat16"},
        {"max_pixels": 784},
    ]
    ways += [{"attention": "eager"}, {"dtype": "float32", "attention": "eager"}]
    assert len({content(folder, **way) for way in ways}) == len(ways)
    assert content(folder, dtype=None) == content(folder)


def test_names_and_history_are_not(folder: Path, tiny_checkpoint: Path) -> None:
    before = content(folder)
    assert before == content(tiny_checkpoint)
    (folder / "puma.json").write_text("{}")
    (folder / "README.md").write_text("A model.")
    (folder / "training.html").write_text("x")
    assert content(folder.rename(folder.with_name("other"))) == before


def test_a_head_is_part_of_the_key(folder: Path) -> None:
    save_file({"weight": torch.eye(32), "bias": torch.zeros(32)}, folder / "head.safetensors")
    edit_json("embedder.json", lambda c: c.update(head="head.safetensors"))(folder)
    before = content(folder)
    save_file({"weight": torch.eye(32), "bias": torch.ones(32)}, folder / "head.safetensors")
    assert content(folder) != before
    (folder / "head.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"head\.safetensors"):
        content(folder)


def test_shards_count_whole(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"a-00001-of-00002": names[::2], "a-00002-of-00002": names[1::2]}
    index: dict[str, str] = {}
    for part, some in parts.items():
        save_file({name: weights[name] for name in some}, folder / f"{part}.safetensors")
        index |= dict.fromkeys(some, f"{part}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    before = content(folder)
    weights[names[3]] = weights[names[3]] + 1
    save_file(
        {name: weights[name] for name in parts["a-00002-of-00002"]},
        folder / "a-00002-of-00002.safetensors",
    )
    assert content(folder) != before


def test_every_part_of_an_input_is_part_of_its_key(tmp_path: Path) -> None:
    image, other, copy = (tmp_path / f"{name}.png" for name in ("a", "b", "copy"))
    image.write_bytes(b"one")
    other.write_bytes(b"two")
    copy.write_bytes(b"one")
    whole = Input(text="a", image=image, instruction="find")
    inputs = [
        whole,
        replace(whole, text="b"),
        replace(whole, text=None),
        replace(whole, text=""),
        replace(whole, instruction=None),
        replace(whole, instruction="find\na"),
        replace(whole, image=None),
        replace(whole, image=other),
        replace(whole, image=tmp_path / "missing.png"),
        replace(whole, image=tmp_path / "also missing.png"),
        replace(whole, view=3),
        replace(whole, text="find", instruction="a"),
        replace(whole, text="\ud800"),
    ]
    keys = input_keys(inputs, FileHashes())
    assert len(set(keys.tolist())) == len(inputs)
    same = input_keys([replace(whole, image=copy), whole], FileHashes())
    assert same[0] == same[1] == keys[0]
    assert len(input_keys([], FileHashes())) == 0


def test_a_changed_image_is_another_key(tmp_path: Path) -> None:
    image, hashes = tmp_path / "a.png", FileHashes()
    image.write_bytes(b"one")
    before = input_keys([Input(image=image)], hashes)
    image.write_bytes(b"three")
    assert input_keys([Input(image=image)], hashes)[0] != before[0]
