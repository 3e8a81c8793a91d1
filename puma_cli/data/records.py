"""Queries and candidates, as read from a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from puma_cli.models.inputs import Input

# Task number -> (query modality, candidate modality), as M-BEIR numbers them.
TASK_MODALITIES: dict[int, tuple[str, str]] = {
    0: ("text", "image"),
    1: ("text", "text"),
    2: ("text", "image,text"),
    3: ("image", "text"),
    4: ("image", "image"),
    5: ("image", "image,text"),
    6: ("image,text", "text"),
    7: ("image,text", "image"),
    8: ("image,text", "image,text"),
}
MODALITIES = ("text", "image", "image,text")


def dataset_of(identifier: str) -> str:
    """Return the data set's number in a qid or did such as `10:17`; empty if there is none."""
    number, colon, _ = identifier.partition(":")
    return number if colon else ""


@dataclass(frozen=True, slots=True)
class Query:
    """One query with the ids of its positive and hard negative candidates.

    Args:
        positives: what the query is trained to find.
        known_positives: all that is known to answer it, where that is more than `positives`.
        instruction: the query's own, in place of one of its data set's.
    """

    qid: str
    text: str | None
    image: Path | None
    modality: str
    task_id: int
    positives: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    known_positives: tuple[str, ...] = ()
    instruction: str | None = None

    @property
    def relevant(self) -> tuple[str, ...]:
        """The ids of all that is known to answer the query, and so is no negative of it."""
        return self.known_positives or self.positives

    def to_input(self, instruction: str | None) -> Input:
        """Return what the embedder sees of the query under `instruction`."""
        return Input(text=self.text, image=self.image, instruction=instruction)


# A benchmark has millions of these: without a dictionary each, they take half the memory.
@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate of a pool."""

    did: str
    text: str | None
    image: Path | None
    modality: str

    def to_input(self) -> Input:
        """Return what the embedder sees of the candidate; candidates carry no instruction."""
        return Input(text=self.text, image=self.image)


def clean_text(text: str | None) -> str | None:
    """Clean a text as M-BEIR's reference does.

    Drops carriage returns and outer white space and quotes, capitalises the first letter and ends
    the text with a full stop unless it ends in `.?!`. An empty text is None.
    """
    if text is None:
        return None
    text = text.replace("\r", "").strip().strip("\"'").strip()
    if not text:
        return None
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".?!" else text + "."
