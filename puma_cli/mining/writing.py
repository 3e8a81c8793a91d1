"""The data set with its negatives: new lines for training queries, links to everything else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from puma_cli.checkpoint.layout import CARD, LAYOUT, PROVENANCE
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.errors import DataError

_KEY = "neg_cand_list"
# Folders with files of lines: linked file by file, so that hashes of the data set see them.
_ROOMS = (LAYOUT.queries, LAYOUT.pools, LAYOUT.qrels, LAYOUT.instructions)

Negatives = tuple[str, ...] | None
"""The ids for one training query, or None where its line stays as it is."""

_END: Negatives = ("end",)


def write_data_set(
    folder: Path, data: MbeirFolder, negatives: Iterable[Negatives], keep_existing: bool
) -> None:
    """Write the files of `data` with other negatives into the empty `folder`.

    Args:
        negatives: one entry for each training query, in the order of files and lines.
        keep_existing: append to what the lines name.

    Raises:
        DataError: there are more or fewer training queries than entries.
    """
    files = data.train_files()
    for entry in _shown(data.root):
        if entry.name in (PROVENANCE, CARD):
            continue
        if entry.name in _ROOMS and entry.is_dir():
            _link_files(entry, folder / entry.name, besides=files)
        else:
            _link(entry, folder / entry.name)
    entries = iter(negatives)
    for path in files:
        target = folder / path.relative_to(data.root)
        with (
            path.open(encoding="utf-8") as lines,
            target.open("w", encoding="utf-8", newline="\n") as out,
        ):
            out.writelines(_rewritten(lines, entries, keep_existing, path))
    if next(entries, _END) is not _END:
        raise _changed(files[-1])


def _rewritten(
    lines: Iterable[str], entries: Iterator[Negatives], keep_existing: bool, path: Path
) -> Iterator[str]:
    for line in lines:
        found = next(entries, _END) if line.strip() else None
        if found is _END:
            raise _changed(path)
        if found is None:
            yield line
            continue
        row = json.loads(line)
        row[_KEY] = [*((row.get(_KEY) or ()) if keep_existing else ()), *found]
        yield json.dumps(row) + "\n"


def _changed(path: Path) -> DataError:
    return DataError(f"{path} was changed while it was mined.", hint="Run the command again.")


def _shown(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _link_files(source: Path, target: Path, besides: Container[Path]) -> None:
    target.mkdir()
    for entry in _shown(source):
        if entry.is_dir():
            _link_files(entry, target / entry.name, besides)
        elif entry not in besides:
            _link(entry, target / entry.name)


def _link(source: Path, target: Path) -> None:
    """Let `target` lead to `source`, or be a copy of it where the system takes no links."""
    real = source.resolve()
    try:
        target.symlink_to(real, target_is_directory=real.is_dir())
    except (OSError, NotImplementedError):
        if real.is_dir():
            shutil.copytree(real, target)
        else:
            shutil.copyfile(real, target)
