"""How tables of pairs are read: a part of the settings of `puma distill`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PairsSettings:
    """Columns, images and held-out queries of training data that come as tables.

    Where no column is named here, those with one of the usual names are taken; as soon as one is
    named, only named columns are read.

    Args:
        query_text: column with the text of the query.
        query_image: column with the path of the query's image.
        positive_text: column with the text of what answers the query, or with a list of such texts.
        positive_image: column with the path of its image, or with a list of paths.
        negative_text: columns with texts of hard negatives, one or a list each.
        negative_image: columns with paths of their images, as many columns or none.
        instruction: column with what is asked of the query.
        prompt: what is asked of the queries whose row does not say it.
        images: folder that paths of images are relative to; by default the first that has the
            first image: the table's own, the one given as data, or the one above it.
        split: of files named such as `train-00000-of-00002.parquet`, those of this split; by
            default `original` or `train`.
        incomplete: `refuse` a row without a query, without a positive or with an image that is not
            there, or `skip` it.
        validation: held-out queries of each task (>= 0), a tenth of its distinct queries at most;
            0 or none holds none out.
        validation_pool: candidates that a task's held-out queries are searched in at least (>= 1),
            as far as the task has so many.
    """

    query_text: str | None = None
    query_image: str | None = None
    positive_text: str | None = None
    positive_image: str | None = None
    negative_text: tuple[str, ...] = ()
    negative_image: tuple[str, ...] = ()
    instruction: str | None = None
    prompt: str | None = None
    images: Path | None = None
    split: str | None = None
    incomplete: str = "refuse"
    validation: int | None = 500
    validation_pool: int = 1_000
