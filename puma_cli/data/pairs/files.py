"""Which files of a path are tables of pairs, and which data set each belongs to."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from puma_cli.errors import DataError

SUFFIXES = (".jsonl", ".parquet", ".csv")
# A file or folder of such a name holds a split, whatever else may lie beside it.
_SPLITS = {"original", "train", "validation", "valid", "val", "dev", "test", "diverse_instruction"}
# Which split is trained on where the user names none: MMEB's first form, then the usual one.
_PREFERRED = ("original", "train")
_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}(?:-\w+)?")
_PLAIN_FOLDERS = {"data", "default"}
_MENDED = {
    ".gz": "Unpack it first: gunzip FILE",
    ".zst": "Unpack it first: zstd -d FILE",
    ".zip": "Unpack it first: unzip FILE",
    ".json": "Write one JSON object a line and name the file .jsonl: jq -c '.[]' FILE > NEW.jsonl",
    ".tsv": "Save it as .csv, with commas and quotation marks.",
}


@dataclass(frozen=True)
class PairFile:
    """One table, and the name of the data set that it is all or a part of."""

    path: Path
    dataset: str


def find_tables(path: Path) -> list[Path]:
    """Return the tables at `path`: the file itself, or those in the folder and one level below."""
    if path.is_file():
        return [path]
    found = [*path.glob("*.*"), *path.glob("*/*.*")]
    return sorted(
        file
        for file in found
        if file.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
        and file.is_file()
    )


def pair_files(
    path: Path, split: str | None = None, preferred: Sequence[str] = _PREFERRED
) -> list[PairFile]:
    """Return the tables of a path, sorted by data set and name.

    A sub-folder is a data set of its own; shards and splits are told by their names.

    Args:
        path: a table, or a folder with tables in it or one level below.
        split: which split to take, where file names tell splits.
        preferred: which of them to take by default, the first that is there.

    Raises:
        DataError: there is no table, or it is not clear which ones are meant.
    """
    if path.is_file():
        _check_suffix(path)
        shard = _SHARD.fullmatch(path.stem)
        name = shard[1] if shard else path.stem
        return [PairFile(path, path.resolve().parent.name if name in _SPLITS else name)]
    by_dataset: dict[str, list[Path]] = defaultdict(list)
    for file in find_tables(path):
        by_dataset[_dataset_of(file, path)].append(file)
    if not by_dataset:
        raise DataError(
            f"{path} holds no training data.",
            cause=f"There is no table ({', '.join(SUFFIXES)}) in it or one level below.",
            hint=_other_files(path)
            or "Give a table of pairs, a folder of them, or a folder in the M-BEIR layout.",
        )
    return [
        PairFile(file, dataset)
        for dataset, files in sorted(by_dataset.items())
        for file in _of_one_kind(_of_split(files, split, preferred, path), path)
    ]


def _check_suffix(path: Path) -> None:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"{path} is no table that can be read.",
            cause=f"Tables of pairs are {', '.join(SUFFIXES)}.",
            hint=_mended(path),
        )


def _mended(path: Path) -> str:
    """Return how a file of a suffix that is not read becomes one that is."""
    hint = _MENDED.get(path.suffix.lower(), "")
    return hint.replace("FILE", path.name).replace("NEW", path.stem)


def _other_files(folder: Path) -> str:
    """Return what to do with the files of a folder without tables, if they look like some."""
    files = sorted(file for file in folder.glob("*.*") if _mended(file))
    # One JSON file may hold pairs; several are a model's, or something else.
    if len(files) > 1:
        files = [file for file in files if file.suffix.lower() != ".json"]
    return _mended(files[0]) if files else ""


def _dataset_of(file: Path, root: Path) -> str:
    own = file.parent.name
    plain = file.parent == root or own in _SPLITS or own in _PLAIN_FOLDERS
    return root.resolve().name if plain else own


def _split_of(file: Path, root: Path) -> str | None:
    """Return which split a file says it is of, by its own name or its folder's."""
    shard = _SHARD.fullmatch(file.stem)
    if shard:
        return shard[1]
    for name in (file.stem, file.parent.name if file.parent != root else ""):
        if name in _SPLITS:
            return name
    return None


def _of_split(
    files: list[Path], wanted: str | None, preferred: Sequence[str], root: Path
) -> list[Path]:
    splits = {file: _split_of(file, root) for file in files}
    names = sorted({name for name in splits.values() if name is not None})
    if wanted is None:
        if not names:
            return files
        wanted = next((name for name in preferred if name in names), None)
    if wanted not in names:
        asked = " or ".join(preferred) if wanted is None else repr(wanted)
        raise DataError(
            f"{files[0].parent} has no split {asked}.",
            cause=f"Its splits: {', '.join(names) or 'none that a file name would tell'}.",
            hint="Choose one with --set pairs.split=NAME, or give the file itself.",
        )
    return [file for file, name in splits.items() if name == wanted]


def _of_one_kind(files: list[Path], root: Path) -> list[Path]:
    kinds = sorted({file.suffix.lower() for file in files})
    if len(kinds) > 1:
        raise DataError(
            f"{root} has {' and '.join(kinds)} files of one data set.",
            cause="They may hold the same pairs twice: "
            f"{', '.join(file.name for file in files[:4])}.",
            hint="Give the file or folder that you mean.",
        )
    return files
