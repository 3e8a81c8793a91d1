"""Whole runs: what they write, go on from, notice and refuse."""

from __future__ import annotations

import importlib
import json
import random
import resource
import shutil
import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from puma_cli.config.index_settings import EmbedSettings
from puma_cli.embedding.embed import embed
from puma_cli.embedding.index_file import read_description
from puma_cli.embedding.index_folder import begin, describe_index
from puma_cli.embedding.lock import only_writer
from puma_cli.embedding.row_embedder import RowEmbedder
from puma_cli.embedding.rows import Row
from puma_cli.embedding.shards import read_record, records
from puma_cli.errors import ConfigError, DataError, OutputError
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.progress import Reporter
from puma_cli.searching.index import FileIndex, open_index
from tests.embedding.conftest import Make

FORMATS = ("npy", "safetensors", "parquet")


def held(folder: Path) -> tuple[list[Row], torch.Tensor]:
    """Return the rows and the vectors of an index."""
    index = open_index(folder, verify=True)
    assert isinstance(index, FileIndex)
    vectors = index.vectors
    return [vectors.row(n) for n in range(len(index))], vectors.rows(0, len(index)).clone()


def texts_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("form", FORMATS)
def test_an_index_holds_the_models_vectors(
    make: Make, lines: Path, embedder: Embedder, form: str
) -> None:
    settings = make(lines, format=form)
    result = embed(settings)
    rows, vectors = held(settings.output_dir)
    texts = texts_of(lines)
    assert [row.text for row in rows] == [text.strip() for text in texts]
    assert [row.id for row in rows] == [str(n) for n in range(1, 24)]
    expected = embedder.encode([Input(text=text) for text in texts])
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=0)
    about = result.description
    assert (result.rows, result.embedded, result.shards, about.complete) == (23, 23, 6, True)
    assert (about.dimensions, about.side) == (32, "document")
    assert read_description(settings.output_dir) == about


@pytest.mark.parametrize("form", FORMATS)
def test_number_formats_lose_what_they_must(make: Make, lines: Path, form: str) -> None:
    whole = make(lines, format=form)
    embed(whole)
    _, vectors = held(whole.output_dir)
    for store_dtype in ("float16", "int8"):
        other = replace(
            whole, store_dtype=store_dtype, output_dir=whole.output_dir.with_name(store_dtype)
        )
        embed(other)
        _, found = held(other.output_dir)
        if store_dtype == "float16":
            assert torch.equal(found, vectors.half())
        else:
            # Half a step of a 127th of the largest component.
            bound = vectors.abs().amax(dim=1, keepdim=True) / 254
            assert ((found - vectors).abs() <= bound * 1.0001).all()
            assert not torch.equal(found, vectors)


def test_fewer_dimensions_are_the_first_ones_at_unit_length(make: Make, lines: Path) -> None:
    embed(make(lines))
    _, whole = held(make(lines).output_dir)
    short = make(lines, dimensions=8, output_dir=make(lines).output_dir.with_name("short"))
    embed(short)
    _, vectors = held(short.output_dir)
    torch.testing.assert_close(vectors, torch.nn.functional.normalize(whole[:, :8], dim=-1))
    with pytest.raises(ConfigError, match="vectors have 32"):
        embed(make(lines, dimensions=33, output_dir=short.output_dir.with_name("no")))
    assert not short.output_dir.with_name("no").exists()


def test_queries_carry_their_instruction(make: Make, tmp_path: Path, embedder: Embedder) -> None:
    path = tmp_path / "q.jsonl"
    given = [{"text": "red"}, {"text": "red", "instruction": "find the picture"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    settings = make(path, side="query", instruction="on white")
    embed(settings)
    _, vectors = held(settings.output_dir)
    asked = [Input("red", None, "on white"), Input("red", None, "find the picture")]
    torch.testing.assert_close(vectors, embedder.encode(asked), atol=1e-5, rtol=0)
    documents = replace(settings, side="document", instruction=None)
    documents = replace(documents, output_dir=tmp_path / "documents")
    embed(documents)
    _, plain = held(documents.output_dir)
    torch.testing.assert_close(
        plain, embedder.encode([Input("red"), Input("red")]), atol=1e-5, rtol=0
    )


def test_images_and_metadata_come_through(make: Make, pictures: Path, embedder: Embedder) -> None:
    path = pictures / "t.jsonl"
    path.write_text(json.dumps({"id": 7, "image": "b.png", "text": "blue", "price": 3.5}) + "\n")
    settings = make(path)
    embed(settings)
    (row,), vectors = held(settings.output_dir)
    assert row == Row("7", "blue", pictures / "b.png", None, {"price": 3.5})
    expected = embedder.encode([Input("blue", pictures / "b.png")])
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=0)


class Counting(Reporter):
    """Counts what is shown to be done, of what."""

    def __init__(self) -> None:
        self.done, self.total = 0, -1
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def track(self, items, label, total=None):  # type: ignore[no-untyped-def]
        self.total = total
        for item in items:
            yield item
            self.done += 1


def test_the_same_command_goes_on_after_a_stop(
    make: Make, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make(lines)
    expected = replace(settings, output_dir=settings.output_dir.with_name("expected"))
    embed(expected)
    stop_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        embed(settings)
    monkeypatch.undo()
    assert not read_description(settings.output_dir).complete
    assert len(records(settings.output_dir)) == 3
    watch = Counting()
    result = embed(settings, watch)
    assert (result.rows, result.embedded) == (23, 11)
    assert (watch.done, watch.total) == (11, 11)
    rows, vectors = held(settings.output_dir)
    other_rows, other_vectors = held(expected.output_dir)
    assert rows == other_rows and torch.equal(vectors, other_vectors)


def test_a_whole_index_is_left_as_it_is_and_opens_no_model(
    make: Make, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make(lines)
    embed(settings)
    monkeypatch.setattr("puma_cli.embedding.shard_maker.open_row_embedder", None)
    assert embed(settings).embedded == 0


def test_what_was_appended_is_embedded_too(make: Make, lines: Path, tmp_path: Path) -> None:
    path = tmp_path / "grows.txt"
    texts = texts_of(lines)
    path.write_text("\n".join(texts[:10]) + "\n")
    settings = make(path)
    embed(settings)
    path.write_text("\n".join(texts) + "\n")
    result = embed(settings)
    # The last shard held two of four.
    assert (result.rows, result.embedded) == (23, 15)
    rows, vectors = held(settings.output_dir)
    whole = make(lines, output_dir=tmp_path / "whole")
    embed(whole)
    other_rows, other_vectors = held(whole.output_dir)
    assert rows == other_rows and torch.equal(vectors, other_vectors)


@pytest.mark.parametrize("change", ["edit", "insert", "remove"])
def test_inputs_that_changed_are_noticed(
    make: Make, lines: Path, tmp_path: Path, change: str
) -> None:
    path = tmp_path / "changes.txt"
    texts = texts_of(lines)
    path.write_text("\n".join(texts) + "\n")
    settings = make(path)
    embed(settings)
    before = held(settings.output_dir)
    if change == "edit":
        texts[9] = "another"
    elif change == "insert":
        texts.insert(0, "another")
    else:
        del texts[12:]
    path.write_text("\n".join(texts) + "\n")
    with pytest.raises(DataError, match="inputs are not those") as caught:
        embed(settings)
    first = {"edit": 9, "insert": 1, "remove": 13}[change]
    assert f"number {first} on" in caught.value.problem
    after = held(settings.output_dir)
    assert before[0] == after[0] and torch.equal(before[1], after[1])
    embed(replace(settings, overwrite=True))
    assert len(held(settings.output_dir)[0]) == len(texts)


def test_an_image_that_changed_is_noticed(make: Make, pictures: Path) -> None:
    settings = make(pictures)
    embed(settings)
    Image.new("RGB", (64, 64), "green").save(pictures / "d.PNG")
    with pytest.raises(DataError, match="inputs are not those"):
        embed(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dimensions", 8),
        ("store_dtype", "int8"),
        ("format", "parquet"),
        ("side", "query"),
        ("instruction", "find the picture"),
        ("shard_rows", 5),
    ],
)
def test_another_setting_does_not_go_on(make: Make, lines: Path, name: str, value: object) -> None:
    settings = make(lines)
    embed(settings)
    with pytest.raises(OutputError, match=f"was made with {name} = ") as caught:
        embed(make(lines, **{name: value}))
    assert "--overwrite" in caught.value.hint


def test_another_model_does_not_go_on(
    make: Make, lines: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    settings = make(lines)
    embed(settings)
    other = tmp_path / "other"
    shutil.copytree(tiny_checkpoint, other)
    # The same content elsewhere is the same model.
    assert embed(replace(settings, model=str(other))).embedded == 0
    (weights,) = other.glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(OutputError, match="another model"):
        embed(replace(settings, model=str(other)))


def test_folders_of_others_are_left_alone(make: Make, lines: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(OutputError):
            embed(make(lines, output_dir=folder, overwrite=overwrite))
    assert [path.name for path in folder.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "record"])
def test_damaged_shards_are_noticed_and_made_again(
    make: Make, lines: Path, form: str, damage: str
) -> None:
    settings = make(lines, format=form, store_dtype="int8")
    embed(settings)
    before = held(settings.output_dir)
    record = read_record(settings.output_dir, 2)
    assert record is not None
    for file in record.files:
        path = settings.output_dir / "shards" / file.name
        content = bytearray(path.read_bytes())
        if damage == "flip":
            content[len(content) // 2] ^= 1
            path.write_bytes(bytes(content))
        elif damage == "cut":
            path.write_bytes(bytes(content[:-3]))
        elif damage == "remove":
            path.unlink()
        else:
            (settings.output_dir / "shards" / "000002.json").write_text("{")
        with pytest.raises(DataError, match=r"damaged|missing") as caught:
            open_index(settings.output_dir)
        assert "puma embed" in caught.value.hint
        assert embed(settings).embedded == 4
        after = held(settings.output_dir)
        assert before[0] == after[0] and torch.equal(before[1], after[1])


@pytest.mark.parametrize("number", [0, 2, 5])
def test_a_shard_without_its_record_is_missing(make: Make, lines: Path, number: int) -> None:
    settings = make(lines)
    embed(settings)
    (settings.output_dir / "shards" / f"{number:06d}.json").unlink()
    with pytest.raises(DataError, match="damaged") as caught:
        open_index(settings.output_dir)
    assert f"shard {number} is missing" in caught.value.cause
    assert embed(settings).embedded == (3 if number == 5 else 4)


def test_what_cannot_be_read_is_named_or_counted(make: Make, pictures: Path) -> None:
    (pictures / "aa.png").write_bytes(b"no image")
    (pictures / "bb.png").write_bytes((pictures / "b.png").read_bytes()[:60])
    settings = make(pictures)
    with pytest.raises(DataError, match=r"aa\.png") as caught:
        embed(settings)
    assert "--skip-broken" in caught.value.hint
    watch = Counting()
    skipping = replace(settings, skip_broken=True)
    result = embed(skipping, watch)
    assert (result.rows, result.skipped) == (4, 2)
    assert sum("aa.png" in note or "bb.png" in note for note in watch.notes) == 2
    rows, vectors = held(settings.output_dir)
    assert [row.id for row in rows] == ["a.jpg", "b.png", "d.PNG", "deep/c.png"]
    # Counted once, however often it is run.
    assert embed(skipping).skipped == 2
    (pictures / "aa.png").unlink()
    (pictures / "bb.png").unlink()
    clean = replace(settings, output_dir=settings.output_dir.with_name("clean"))
    embed(clean)
    torch.testing.assert_close(held(clean.output_dir)[1], vectors, atol=1e-5, rtol=0)


def test_rows_that_cannot_be_read_say_how_to_go_on(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes(b"one\n\xff\n")
    with pytest.raises(DataError, match="line 2 is not UTF-8") as caught:
        embed(make(path))
    assert "Save the file as UTF-8" in caught.value.hint
    assert "--skip-broken" in caught.value.hint
    result = embed(make(path, skip_broken=True))
    assert (result.rows, result.skipped) == (1, 1)


def test_an_image_of_200_megapixels_is_refused_or_counted(make: Make, pictures: Path) -> None:
    Image.new("1", (20_000, 10_000)).save(pictures / "huge.png")
    settings = make(pictures)
    with pytest.raises(DataError, match=r"huge\.png cannot be decoded") as caught:
        embed(settings)
    assert "200000000 pixels" in caught.value.cause
    result = embed(replace(settings, skip_broken=True))
    assert (result.rows, result.skipped) == (4, 1)


def test_a_text_of_100_000_tokens_is_cut_and_counted(
    make: Make, tmp_path: Path, embedder: Embedder
) -> None:
    long = "small red circle " * 34_000
    path = tmp_path / "long.txt"
    path.write_text(f"{long}\nshort\n")
    settings = make(path)
    result = embed(settings)
    assert (result.rows, result.cut) == (2, 1)
    rows, vectors = held(settings.output_dir)
    assert rows[0].text == long.strip()
    expected = embedder.encode([Input(text=long.strip()), Input(text="short")])
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=0)


def test_nothing_that_can_be_read_is_no_index(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "blank.txt"
    path.write_text("\n \n")
    with pytest.raises(DataError, match="nothing to embed"):
        embed(make(path))
    assert not make(path).output_dir.exists()
    path.write_bytes(b"\xff\n")
    with pytest.raises(DataError, match="nothing to embed"):
        embed(make(path, skip_broken=True, output_dir=tmp_path / "other"))


def test_a_slip_in_the_inputs_leaves_nothing_behind(
    make: Make, lines: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    wrong = make(tmp_path / "empty")
    with pytest.raises(DataError, match="holds no images"):
        embed(wrong)
    assert not wrong.output_dir.exists()
    # Nor does a run that was killed before its first shard stand in the way of another.
    wrong.output_dir.mkdir()
    began = make(lines, side="query")
    begin(began, describe_index(began, Path(began.model)))
    assert embed(make(lines)).rows == 23
    # Unless it has one.
    with pytest.raises(OutputError, match="made with side"):
        embed(make(lines, side="query"))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_is_said_and_what_is_whole_is_kept(
    make: Make, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "texts.txt"
    # The rows of the third shard are too large for what is left.
    noise = "".join(random.Random(0).choices(string.ascii_letters, k=40_000))
    texts = [f"text {n}" for n in range(20)]
    texts[9] = noise
    path.write_text("\n".join(texts) + "\n")
    settings = make(path, format=form)
    with files_of_at_most(12_000), pytest.raises(OutputError, match="disk is full"):
        embed(settings)
    assert [record.number for record in records(settings.output_dir)] == [0, 1]
    assert not list((settings.output_dir / "shards").glob(".*"))
    result = embed(settings)
    assert (result.rows, result.embedded) == (20, 12)
    assert [row.text for row in held(settings.output_dir)[0]] == texts


def test_one_writer_at_a_time(make: Make, lines: Path) -> None:
    settings = make(lines)
    embed(settings)
    with only_writer(settings.output_dir), pytest.raises(OutputError, match="Another"):
        embed(settings)
    embed(settings)


def test_blocks_are_read_one_at_a_time(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "many.txt"
    path.write_text("".join(f"text {n}\n" for n in range(40)))
    seen: list[int] = []
    original = RowEmbedder.steps

    def steps(self, items):  # type: ignore[no-untyped-def]
        seen.append(len(items))
        return original(self, items)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowEmbedder, "steps", steps)
        embed(make(path))
    assert seen == [4] * 10


def stop_after(monkeypatch: pytest.MonkeyPatch, shards: int) -> None:
    module = importlib.import_module("puma_cli.embedding.shard_maker")
    original, done = module.commit, 0

    def commit(*given: object) -> None:
        nonlocal done
        if done == shards:
            raise KeyboardInterrupt
        original(*given)
        done += 1

    monkeypatch.setattr(module, "commit", commit)


def test_settings_are_checked(make: Make, lines: Path) -> None:
    settings: EmbedSettings = make(lines, store_dtype="bfloat16")
    with pytest.raises(ConfigError, match="store_dtype"):
        embed(settings)
