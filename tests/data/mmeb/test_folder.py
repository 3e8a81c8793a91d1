"""Reading MMEB: both forms, images, and how broken rows are named."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from puma_cli.data.layouts import tell_layout
from puma_cli.data.mmeb.folder import MmebFolder, is_mmeb
from puma_cli.data.mmeb.hub import fetch, is_hub_id
from puma_cli.errors import DataError, ImageError
from puma_cli.models.inputs import Input
from tests.data.mmeb.stand_in import MARK, picture, row, stand_in, write_archive, write_table


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PUMA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_second_form_has_instructions_beside_the_texts(tmp_path: Path) -> None:
    write_archive(tmp_path / "images.zip", {"a/1.png": picture(1), "a/2.png": picture(2)})
    told = {"qry_inst": f"{MARK}Find the picture.", "tgt_inst": f"{MARK}Represent it."}
    rows = [
        row("more red", "a/1.png", images=["a/2.png", "a/1.png"], **told),
        row("a caption", "a/1.png", texts=["yes", "no"], **told),
        row("", "a/1.png", texts=["a headline", ""], images=["a/2.png", "a/1.png"], **told),
    ]
    write_table(tmp_path, "CIRR", rows)
    found = MmebFolder(tmp_path).read("CIRR")
    assert found.instructed
    assert found.queries[0].instruction == "Find the picture."
    assert (found.queries[0].text, found.queries[2].text) == ("more red", None)
    shown = [[found.candidates[place] for place in places] for places in found.own]
    assert [(e.text, e.instruction) for e in shown[0]] == [(None, "Represent it.")] * 2
    assert shown[1] == [Input(text="yes"), Input(text="no")]
    assert [e.text for e in shown[2]] == ["a headline", None]


def test_only_what_is_asked_for_is_unpacked(tmp_path: Path, cache: Path) -> None:
    folder = MmebFolder(stand_in(tmp_path / "data"))
    folder.read("RefCOCO")
    assert sorted({path.parent.name for path in cache.rglob("*.png")}) == ["RefCOCO"]
    assert len(list(cache.rglob("*.png"))) == 4


def test_an_archive_may_have_a_folder_around_all(tmp_path: Path) -> None:
    root = stand_in(tmp_path / "data")
    with zipfile.ZipFile(root / "images.zip") as archive:
        images = {name: archive.read(name) for name in archive.namelist()}
    write_archive(root / "images.zip", images, prefix="MMEB/")
    assert len(MmebFolder(root).read("MSCOCO_t2i").queries) == 5


def test_layouts_are_told_apart(tmp_path: Path, tiny_scenes: Path) -> None:
    root = stand_in(tmp_path / "MMEB-eval")
    assert tell_layout(root) == "mmeb"
    assert tell_layout(root / "RefCOCO") == "mmeb"
    assert MmebFolder(root / "RefCOCO").names == ["RefCOCO"]
    assert len(MmebFolder(root / "RefCOCO").read("RefCOCO").queries) == 4
    assert tell_layout(tiny_scenes) == "mbeir"
    (tmp_path / "shop").mkdir()
    table = tmp_path / "shop" / "test.jsonl"
    table.write_text('{"query": "a", "positive": "b"}\n')
    assert tell_layout(table) == tell_layout(tmp_path / "shop") == "pairs"
    assert not is_mmeb(tmp_path / "shop")
    assert tell_layout(tmp_path / "nowhere") == "mbeir"
    with pytest.raises(DataError, match="no column 'qry_text'"):
        MmebFolder(tmp_path / "shop").read("shop")
    with pytest.raises(DataError, match="not in the layout of MMEB"):
        MmebFolder(tiny_scenes)
    with pytest.raises(DataError, match="does not exist"):
        MmebFolder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="No data set matches 'CIRR'"):
        MmebFolder(root).select("CIRR")


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (row("", "", ["a", "b"]), "neither a text nor an image for the query"),
        (row(f"{MARK}x", "", ["a", "b"]), "text of the query shows an image"),
        (row("x", "", ["", "b"]), "right candidate, the first, has neither"),
        (row("x", "", ["a"]), "it has 1 candidates"),
        (row("x", "", ["a", f"{MARK}b"]), "text of candidate 1 shows an image"),
        ({**row("x", "", ["a", "b"]), "tgt_img_path": [""]}, "2 texts but 1 images"),
        (row("x", "../../etc/passwd", ["a", "b"]), "leads out of"),
        (row("x", "/etc/passwd", ["a", "b"]), "leads out of"),
    ],
)
def test_a_broken_row_is_named_or_left_out(
    tmp_path: Path, broken: dict[str, Any], says: str
) -> None:
    rows = [row("x", "", ["a", "b"]), broken, row("y", "", ["a", "b"])]
    write_table(tmp_path, "CIRR", rows)
    with pytest.raises(DataError, match=r"CIRR/test-00000-of-00001.parquet, row 2 ") as caught:
        MmebFolder(tmp_path).read("CIRR")
    assert says in caught.value.cause
    folder = MmebFolder(tmp_path, skip_rows=True)
    assert folder.read("CIRR").numbers == (1, 3)
    assert folder.skipped == {"rows": 1}


def test_rows_count_on_over_the_shards_of_a_table(tmp_path: Path) -> None:
    write_table(tmp_path, "CIRR", [row(str(n), "", ["a", "b"]) for n in range(5)], shards=2)
    assert MmebFolder(tmp_path).read("CIRR").numbers == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("content", [b"", b"no image", picture(3)[:-40]])
def test_bad_images_are_named_or_left_out(tmp_path: Path, content: bytes) -> None:
    images = {"1.png": picture(1), "2.png": picture(2), "bad.png": content}
    write_archive(tmp_path / "images.zip", images)
    rows = [
        row("x", "1.png", images=["1.png", "bad.png", "2.png"]),
        row("x", "bad.png", images=["1.png", "2.png"]),
        row("x", "1.png", images=["bad.png", "2.png", "1.png"]),
        row("x", "1.png", images=["2.png", "gone.png", "1.png"]),
    ]
    write_table(tmp_path, "NIGHTS", rows)
    with pytest.raises(ImageError, match=r"The image gone.png is missing") as caught:
        MmebFolder(tmp_path).read("NIGHTS")
    assert "row 4" in caught.value.cause
    folder = MmebFolder(tmp_path, skip_images=True)
    found = folder.read("NIGHTS")
    assert found.numbers == (1, 4)
    assert [len(places) for places in found.own] == [2, 2]
    assert folder.skipped == {"images": 2, "rows": 2}


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    root = stand_in(tmp_path / "data")
    whole = (root / "images.zip").read_bytes()
    (root / "images.zip").write_bytes(whole[:-30])
    with pytest.raises(DataError, match=r"images.zip cannot be read"):
        MmebFolder(root)
    damaged = whole.replace(picture(0)[20:60], bytes(40))
    (root / "images.zip").write_bytes(damaged)
    with pytest.raises(ImageError, match="cannot be unpacked"):
        MmebFolder(root).read("ImageNet-1K")


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    rows = [{"qry_text": "x", "qry_img_path": "", "tgt_text": ["a", "b"]}]
    write_table(tmp_path, "CIRR", rows)
    with pytest.raises(DataError, match="no column 'tgt_img_path'"):
        MmebFolder(tmp_path).read("CIRR")


def test_the_hubs_snapshot_is_a_folder_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    kept = tmp_path / "hub" / "datasets--TIGER-Lab--MMEB-eval"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text(commit)
    stand_in(kept / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = MmebFolder(fetch("TIGER-Lab/MMEB-eval", "RefCOCO"))
    assert len(folder.read("RefCOCO").queries) == 4
    assert is_hub_id("TIGER-Lab/MMEB-eval@main") and not is_hub_id("a/b/c")
    with pytest.raises(DataError, match="nobody/nothing"):
        fetch("nobody/nothing")
