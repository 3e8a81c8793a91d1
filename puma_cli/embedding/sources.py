"""What the user named, as one stream of rows that is read in its order, never held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

from puma_cli.config.index_settings import EmbedSettings
from puma_cli.data.pairs.files import SUFFIXES as TABLES
from puma_cli.data.pairs.files import find_tables
from puma_cli.embedding.image_files import ImageFolder, holds_image, is_image
from puma_cli.embedding.rows import Item, is_address
from puma_cli.embedding.starts import ShardStart, Start
from puma_cli.embedding.table_rows import Columns, TableRows
from puma_cli.embedding.text_lines import TextLines
from puma_cli.errors import DataError

STANDARD_INPUT = "-"
SKIP_HINT = "To leave out, and count, what cannot be read: --skip-broken"
# What holds other things than lines of text.
_NO_TEXT = frozenset((".gz", ".zip", ".zst", ".xz", ".tar", ".npy", ".safetensors", ".pdf"))


class Source(Protocol):
    """A file or folder of inputs."""

    def count(self) -> int | None:
        """Return about how many there are, or None if that cannot be told."""
        ...

    def starts(self) -> Iterator[Start]:
        """Yield where each one begins, at less cost than reading it."""
        ...

    def items(self, start: Start = None) -> Iterator[Item]:
        """Yield them, from a start on, in an order that is always the same."""
        ...


def open_sources(settings: EmbedSettings) -> list[Source]:
    """Return what the inputs of `puma embed` stand for, in the order they are named.

    Raises:
        ConfigError: a table has no such column.
        DataError: an input is missing, or is nothing that can be read.
    """
    columns = Columns(
        settings.id_column,
        settings.text_column,
        settings.image_column,
        settings.metadata,
        settings.images,
    )
    return sources_of(settings.inputs, columns, settings.skip_broken)


def sources_of(
    inputs: Sequence[str], columns: Columns | None = None, skip_broken: bool = False
) -> list[Source]:
    """Return what some names stand for; with several, ids begin with the name of their input.

    Raises:
        ConfigError, DataError: see `open_sources`.
    """
    columns = columns or Columns()
    if not inputs:
        raise DataError("No inputs are named.", hint="Name files or folders after the model.")
    names = _names(inputs)
    several = len(inputs) > 1
    found: list[Source] = []
    for given, name in zip(inputs, names, strict=True):
        if is_address(given):
            found += _remote(given, columns, name if several else "", skip_broken)
            continue
        path = Path("/dev/stdin") if given == STANDARD_INPUT else Path(given).expanduser()
        if not path.exists():
            raise DataError(
                f"The input {given} does not exist.",
                hint="Check the path. Inputs are files of text lines, tables, images, and folders "
                "of them.",
            )
        kind = path.suffix.lower()
        if path.is_dir():
            found += _of_folder(path, columns, name if several else "", skip_broken)
        elif kind in TABLES:
            found.append(TableRows(path, columns, f"{name}:" if several else "", skip_broken))
        elif is_image(path.name):
            found.append(ImageFolder(path, name.removesuffix(path.name)))
        elif kind in _NO_TEXT:
            raise _no_text(given, kind)
        else:
            found.append(TextLines(path, f"{name}:" if several else "", skip_broken))
    return found


def stream(sources: Iterable[Source]) -> Iterator[Item]:
    """Yield the items of all sources, one source after the other."""
    return chain.from_iterable(source.items() for source in sources)


class ShardReader:
    """Reads the inputs of single shards, not those before them.

    Args:
        sources: all inputs.
        size: inputs of a shard, of which the last may have fewer.
    """

    def __init__(self, sources: Sequence[Source], size: int) -> None:
        self._sources, self._size = sources, size
        self._next = -1
        self._items: Iterator[Item] = iter(())

    def read(self, begin: ShardStart) -> list[Item]:
        """Return the inputs of a shard; where it follows the last one, reading just goes on.

        Raises:
            DataError: one of them cannot be read.
        """
        if begin.number != self._next:
            first, *further = self._sources[begin.source :]
            self._items = chain(first.items(begin.start), stream(further))
        # Until it is read: a source that failed does not go on.
        self._next = -1
        found = list(islice(self._items, self._size))
        self._next = begin.number + 1
        return found


def explained(sources: Sequence[Source]) -> Iterator[Item]:
    """Yield all items; of one that cannot be read, say how to go on without it."""
    with skipping_explained():
        yield from stream(sources)


@contextmanager
def skipping_explained() -> Iterator[None]:
    """Say of an input that cannot be read how to go on without it."""
    try:
        yield
    except DataError as error:
        error.hint = "\n".join(filter(None, (error.hint, SKIP_HINT)))
        raise


def blocks(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    """Yield items some at a time; all but the last block hold `size` of them."""
    while block := list(islice(items, size)):
        yield block


def count(sources: Iterable[Source]) -> int | None:
    """Return about how many items there are, or None if that cannot be told."""
    total = 0
    for source in sources:
        found = source.count()
        if found is None:
            return None
        total += found
    return total


def _of_folder(folder: Path, columns: Columns, name: str, skip_broken: bool) -> list[Source]:
    """Return the tables of a folder that has some and no images beside them, or its images."""
    prefix = f"{name}/" if name else ""
    tables = [table for table in find_tables(folder) if table.parent == folder]
    if not tables or holds_image(folder):
        return [ImageFolder(folder, prefix)]
    return [TableRows(table, columns, f"{prefix}{table.name}:", skip_broken) for table in tables]


def _remote(url: str, columns: Columns, name: str, skip_broken: bool) -> list[Source]:
    """Return what is at an address."""
    # Imported here, since few need it.
    from puma_cli.embedding.remote import RemoteFile, RemoteImages, Store, tables_in

    store = Store(url)
    kind = Path(store.path).suffix.lower()

    def table(path: str, prefix: str) -> Source:
        return RemoteFile(store, path, lambda copy: TableRows(copy, columns, prefix, skip_broken))

    if store.kind() == "folder":
        start = f"{name}/" if name else ""
        tables = tables_in(store)
        if tables:
            return [table(path, f"{start}{Path(path).name}:") for path in tables]
        return [RemoteImages(store, store.path, start)]
    prefix = f"{name}:" if name else ""
    if kind in TABLES:
        return [table(store.path, prefix)]
    if is_image(store.path):
        return [RemoteImages(store, store.path)]
    if kind in _NO_TEXT:
        raise _no_text(url, kind)
    return [RemoteFile(store, store.path, lambda copy: TextLines(copy, prefix, skip_broken))]


def _no_text(given: str, kind: str) -> DataError:
    return DataError(
        f"The input {given} is no file of text lines.",
        cause=f"Tables are {', '.join(TABLES)}; all but images is read as lines of text.",
        hint="Unpack it first." if kind in {".gz", ".zip", ".zst", ".xz", ".tar"} else "",
    )


def _names(inputs: Sequence[str]) -> list[str]:
    """Return a short name of each input, of which no two are the same."""
    short = [Path(given).name or given for given in inputs]
    return [
        name if short.count(name) == 1 else given.rstrip("/")
        for given, name in zip(inputs, short, strict=True)
    ]
