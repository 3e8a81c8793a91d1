"""Which files of a folder are read, and as which data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from puma_cli.data.pairs.files import pair_files
from puma_cli.errors import DataError


def touched(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(root: Path, split: str | None = None) -> list[tuple[str, str]]:
    return [
        (file.path.relative_to(root).as_posix(), file.dataset) for file in pair_files(root, split)
    ]


@pytest.mark.parametrize("name", ["shop.csv", "shop-00000-of-00002.parquet", "shop/train.jsonl"])
def test_a_file_is_a_data_set_of_its_name(name: str, tmp_path: Path) -> None:
    touched(tmp_path, name, "other.csv")
    assert [file.dataset for file in pair_files(tmp_path / name)] == ["shop"]


@pytest.mark.parametrize(
    ("names", "read", "dataset"),
    [
        (["b.jsonl", "a.jsonl"], ["a.jsonl", "b.jsonl"], "root"),
        (["0000.parquet", "0001.parquet"], ["0000.parquet", "0001.parquet"], "root"),
        (
            ["data/test-00000-of-00001.parquet", "data/train-00000-of-00001-0a1b.parquet"],
            ["data/train-00000-of-00001-0a1b.parquet"],
            "root",
        ),
        (["train.jsonl", "dev.jsonl", "test.jsonl"], ["train.jsonl"], "root"),
        (["train/0000.parquet", "test/0000.parquet"], ["train/0000.parquet"], "root"),
        (["shop/train.csv", "shop/.hidden.csv", ".cache/x.csv"], ["shop/train.csv"], "shop"),
        (
            ["VisDial/original-00000-of-00001.parquet", "VisDial/train-00000-of-00001.parquet"],
            ["VisDial/original-00000-of-00001.parquet"],
            "VisDial",
        ),
        (["A.CSV", "images/1.png", "README.md"], ["A.CSV"], "root"),
    ],
)
def test_splits_and_shards_are_told_by_their_names(
    names: list[str], read: list[str], dataset: str, tmp_path: Path
) -> None:
    root = touched(tmp_path / "root", *names)
    assert found(root) == [(name, dataset) for name in read]


def test_sub_folders_are_data_sets_and_a_split_can_be_asked_for(tmp_path: Path) -> None:
    names = [f"{set_}/{split}-00000-of-00001.parquet" for set_ in "BA" for split in ("x", "y")]
    root = touched(tmp_path, *names)
    assert found(root, "y") == [
        ("A/y-00000-of-00001.parquet", "A"),
        ("B/y-00000-of-00001.parquet", "B"),
    ]
    with pytest.raises(DataError, match="has no split original or train") as caught:
        pair_files(root)
    assert "x, y" in caught.value.cause and "pairs.split" in caught.value.hint
    with pytest.raises(DataError, match="has no split 'z'"):
        pair_files(root, "z")


def test_one_data_set_in_two_formats_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.csv and \.jsonl files"):
        pair_files(touched(tmp_path, "pairs.csv", "pairs.jsonl"))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("pairs.jsonl.gz", "gunzip pairs.jsonl.gz"),
        ("pairs.json", "jq -c '.[]' pairs.json > pairs.jsonl"),
        ("pairs.tsv", ".csv"),
        ("pairs.xyz", ""),
    ],
)
def test_what_is_no_table_is_refused_with_a_way_out(name: str, hint: str, tmp_path: Path) -> None:
    root = touched(tmp_path, name)
    with pytest.raises(DataError, match="no table") as caught:
        pair_files(root / name)
    assert hint in caught.value.hint
    with pytest.raises(DataError, match="holds no training data") as caught:
        pair_files(root)
    assert (hint or "M-BEIR") in caught.value.hint


def test_the_files_of_a_model_are_not_taken_for_pairs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no training data") as caught:
        pair_files(touched(tmp_path, "config.json", "tokenizer.json", "model.safetensors"))
    assert "jq" not in caught.value.hint
