"""A model and an index, kept open for one query after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from puma_cli.checkpoint.source import resolve
from puma_cli.config.index_settings import SearchSettings
from puma_cli.config.legal import check_settings
from puma_cli.embedding.index_file import IndexDescription
from puma_cli.embedding.row_embedder import QUERY, RowEmbedder, open_row_embedder
from puma_cli.embedding.rows import Broken, Item, Row
from puma_cli.errors import DataError
from puma_cli.progress import SILENT, Reporter
from puma_cli.searching.found import Answer
from puma_cli.searching.index import Index, open_index
from puma_cli.searching.space import check_space


@dataclass
class Searcher:
    """Answers queries.

    Args:
        index: what is searched.
        embedder: embeds the queries.
        space: what puts both into one space, in words.
        top_k: results of a query.
        together: queries that are searched for at a time.
    """

    index: Index
    embedder: RowEmbedder
    space: str
    top_k: int
    together: int = 128

    @property
    def description(self) -> IndexDescription:
        """What is searched."""
        return self.index.description

    @property
    def remarks(self) -> list[str]:
        """What to know about the results, in sentences."""
        about = self.description
        found = [self.index.approximate] if self.index.approximate else []
        if not about.complete:
            found.append(
                f"The index is not finished: {len(self.index):,} vectors so far. The `puma embed` "
                "command that began it goes on."
            )
        if self.space.startswith("nothing"):
            found.append("Nothing says that model and index share a space: --any-space.")
        return found

    def search(self, queries: Sequence[Row]) -> list[Answer]:
        """Return the best results of each query.

        Raises:
            DataError: a query's image cannot be read, or the index is damaged.
            NumericError: a vector is not finite.
        """
        found = self.embedder(queries)
        hits = self.index.nearest(found.vectors, self.top_k)
        return [Answer(row, best) for row, best in zip(found.rows, hits, strict=True)]

    def answers(self, queries: Iterable[Item]) -> Iterator[Answer]:
        """Yield the best results of any number of queries, some of which are read at a time.

        Raises:
            DataError: a query is broken.
        """
        source = iter(queries)
        while some := list(islice(source, self.together)):
            for item in some:
                if isinstance(item, Broken):
                    raise item.error
            yield from self.search([item for item in some if isinstance(item, Row)])


def open_searcher(settings: SearchSettings, reporter: Reporter = SILENT) -> Searcher:
    """Open an index and a model of its space.

    Raises:
        CheckpointError: the model cannot be opened.
        ConfigError: nothing says that both share a space.
        DataError: the index is missing or damaged.
    """
    check_settings(settings)
    index = open_index(settings.index, settings.verify)
    about = index.description
    folder = resolve(settings.model, reporter)
    space = check_space(settings.model, folder, settings.index, about, settings.any_space)
    if settings.approximate:
        index.approximate_from_now(reporter)
    embedder = open_row_embedder(
        folder,
        settings.device,
        settings.dtype,
        settings.attention,
        side=QUERY,
        instruction=settings.instruction,
        dimensions=about.dimensions if about.dimensions < about.model_dimension else None,
        batch_size=settings.batch_size,
        image_workers=0,
        hint="Check its path.",
    )
    return Searcher(index, embedder, space, settings.top_k, settings.batch_size)


def query_row(text: str | None, image: Path | None = None, name: str = "1") -> Row:
    """Return a query as the user typed it.

    Raises:
        DataError: it has neither a text nor an image.
    """
    if not (text and text.strip()) and image is None:
        raise DataError("The query has neither a text nor an image.")
    return Row(name, text.strip() if text and text.strip() else None, image)
