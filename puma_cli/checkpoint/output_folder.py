"""Writing results so that a name either holds the whole result or is not there."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from puma_cli.checkpoint import drafts
from puma_cli.checkpoint.layout import LAYOUT, PROVENANCE
from puma_cli.errors import NumericError, OutputError, PumaError
from puma_cli.report.numbers import size_on_disk

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SAID_FULL = ("No space left on device", "File too large")
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def new_folder(
    path: str | Path, overwrite: bool = False, inputs: Iterable[str | Path] = ()
) -> Iterator[Path]:
    """Give a temporary sibling of `path` to write in, and rename it into place on success.

    On any failure, an interruption included, the temporary folder is removed and `path` is as it
    was before. What runs that were killed left for the same `path` is removed first, and a result
    that one of them was about to replace is back under its name.

    Args:
        path: the final folder; absent or empty, unless `overwrite`.
        overwrite: replace a folder with content, if this project wrote it.
        inputs: folders that the result is made from; replacing one of them is refused.

    Raises:
        OutputError: the folder is taken or cannot be written, or the disk is full.
    """
    target = Path(path).resolve()
    spared = tuple(inputs)
    check_free(path, overwrite, spared)
    created = _make_parents(target.parent)
    done = False
    try:
        drafts.clean_up(target)
        check_free(path, overwrite, spared)
        with explained_writes(path), _draft(path, target) as draft:
            yield draft
            open_permissions(draft)
            drafts.sync(draft)
            check_free(path, overwrite, spared)
            drafts.put_in_place(draft, target)
            done = True
    finally:
        for parent in created if not done else ():
            with suppress(OSError):
                parent.rmdir()


def check_free(
    path: str | Path, overwrite: bool = False, inputs: Iterable[str | Path] = ()
) -> None:
    """Raise OutputError unless a result may be written to the folder `path`; touch nothing.

    Args:
        inputs: folders that the result is made from; replacing one of them is refused.
    """
    target = Path(path).resolve()
    if not target.exists():
        return
    if not target.is_dir():
        raise OutputError(
            f"The output folder `{path}` is a file.",
            hint="Give another folder with --output-dir.",
        )
    if Path.cwd().is_relative_to(target):
        raise OutputError(
            f"The output folder `{path}` is or holds the current folder.",
            cause="A result replaces its folder as a whole, which would pull it from under you.",
            hint="Name a new folder with --output-dir.",
        )
    if not any(target.iterdir()):
        return
    if not overwrite:
        raise OutputError(
            f"The output folder `{path}` is not empty.",
            hint="Choose another --output-dir, or replace it with --overwrite.",
        )
    for folder in inputs:
        if Path(folder).resolve().is_relative_to(target):
            raise OutputError(
                f"The output folder `{path}` holds `{folder}`, which the result is made from.",
                hint="Give another folder with --output-dir.",
            )
    written = (PROVENANCE, LAYOUT.training_settings, LAYOUT.training_stages)
    if not any((target / name).exists() for name in written):
        # A slip such as `--output-dir ~ --overwrite` must not cost anybody their files.
        raise OutputError(
            f"The output folder `{path}` was not written by puma, so it is not overwritten.",
            cause=f"It holds no {PROVENANCE}.",
            hint="Choose another --output-dir, or remove that folder yourself.",
        )


def check_space(path: str | Path, needed: int) -> None:
    """Raise OutputError unless the disk that `path` is or will be on has room for a result.

    Args:
        needed: the size of the result in bytes (>= 0).
    """
    place = Path(path).resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise OutputError(
            f"`{path}` will not fit its disk: it needs {size_on_disk(needed)}, and "
            f"{size_on_disk(free)} are free.",
            cause=f"{needed} bytes against {free}.",
            hint="Free some space, or choose another disk with --output-dir.",
        )


@contextmanager
def explained_writes(path: str | Path) -> Iterator[None]:
    """Turn a full disk or a refused write below `path` into an OutputError that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise _disk_full(path, error) from error
        if error.errno in _REFUSED and _concerns(error, Path(path).resolve()):
            raise _not_writable(path, error) from error
        raise
    except PumaError:
        raise
    except Exception as error:
        # safetensors reports a failed write with an exception of its own.
        if any(said in str(error) for said in _SAID_FULL):
            raise _disk_full(path, error) from error
        raise


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a temporary sibling of `path` to write to, and rename it into place on success."""
    draft = path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")
    try:
        with explained_writes(path):
            yield draft
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    with new_file(path) as draft, draft.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` as indented JSON, whole or not at all.

    Raises:
        NumericError: a number in it is not finite, which JSON cannot say.
        OutputError: the file cannot be written.
    """
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise NumericError(
            f"`{path.name}` would hold a number that is not finite.", cause=str(error)
        ) from error
    write_text(path, text + "\n")


def _make_parents(folder: Path) -> list[Path]:
    """Make `folder` with its parents; return the new ones, deepest first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    if not folder.is_dir():
        raise OutputError(
            f"The output folder cannot be made: `{folder}` is a file.",
            hint="Give another folder with --output-dir.",
        )
    made: list[Path] = []
    try:
        for parent in reversed(missing):
            with explained_writes(parent):
                parent.mkdir(exist_ok=True)
            made.insert(0, parent)
    except BaseException:
        for parent in made:
            with suppress(OSError):
                parent.rmdir()
        raise
    return made


@contextmanager
def _draft(path: str | Path, target: Path) -> Iterator[Path]:
    """Give a draft of `target`; a place that takes none is the user's to mend."""
    with ExitStack() as stack:
        try:
            draft = stack.enter_context(drafts.draft_of(target))
        except OSError as error:
            if error.errno in _FULL:
                raise
            # Names that are too long, file systems that take no folders.
            raise _not_writable(path, error) from error
        yield draft


def open_permissions(folder: Path) -> None:
    """Give weight files the permissions of any other file: safetensors writes mode 0600."""
    mode = folder.stat().st_mode & 0o666
    for file in folder.rglob("*.safetensors"):
        # A file with other names is its owner's, who may have linked it in.
        if not file.is_symlink() and file.stat().st_nlink == 1:
            file.chmod(mode)


def _concerns(error: OSError, target: Path) -> bool:
    """Tell whether an error is about `target`, its drafts or its parent, not about a neighbour."""
    if not isinstance(error.filename, str | os.PathLike):
        return False
    place = Path(error.filename).resolve()
    if not place.is_relative_to(target.parent):
        return False
    first = next(iter(place.relative_to(target.parent).parts), target.name)
    return first == target.name or first.startswith(f".{target.name}.")


def _disk_full(path: str | Path, error: Exception) -> OutputError:
    return OutputError(
        f"`{path}` cannot be written: the disk is full.",
        cause=str(error),
        hint="Free some space, or choose another disk with --output-dir.",
    )


def _not_writable(path: str | Path, error: OSError) -> OutputError:
    return OutputError(
        f"`{path}` cannot be written: {error.strerror}.",
        hint="Choose a folder you may write to.",
    )
