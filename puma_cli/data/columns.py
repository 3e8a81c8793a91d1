"""The distinct candidates of a batch: whatever reads and looks the same is one of them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from puma_cli.data.records import Candidate

Shown = tuple[str | None, Path | None]


class Columns:
    """Candidates in order of appearance, the same content once, whatever its id or its file."""

    def __init__(self) -> None:
        self.candidates: list[Candidate] = []
        self._places: dict[Shown, int] = {}
        # Files of one size may hold one image; only those are read to tell, the first of them
        # (under None) when a second comes.
        self._same_size: dict[tuple[str | None, int], dict[bytes | None, int]] = defaultdict(dict)

    def __len__(self) -> int:
        return len(self.candidates)

    def add(self, candidate: Candidate) -> int:
        """Return the column of the candidate, a new one if nothing like it has any."""
        shown = candidate.text, candidate.image
        place = self._places.get(shown)
        if place is None:
            place = self._twin(candidate)
            if place == len(self):
                self.candidates.append(candidate)
            self._places[shown] = place
        return place

    def find(self, candidates: Iterable[Candidate]) -> list[int]:
        """Return the columns of those candidates that have one, by their text and file."""
        places = (self._places.get((each.text, each.image)) for each in candidates)
        return [place for place in places if place is not None]

    def _twin(self, candidate: Candidate) -> int:
        """Return the column of the same text and the same image in another file, or a new one."""
        if candidate.image is None:
            return len(self)
        alike = self._same_size[candidate.text, _size(candidate.image)]
        if not alike:
            return alike.setdefault(None, len(self))
        first = alike.pop(None, None)
        if first is not None:
            image = self.candidates[first].image
            assert image is not None
            alike[_digest(image)] = first
        return alike.setdefault(_digest(candidate.image), len(self))


@lru_cache(maxsize=1 << 18)
def _size(image: Path) -> int:
    try:
        return image.stat().st_size
    except OSError:  # said clearly where the image is opened
        return -1


@lru_cache(maxsize=1 << 18)
def _digest(image: Path) -> bytes:
    try:
        return hashlib.blake2b(image.read_bytes(), digest_size=16).digest()
    except OSError:
        return str(image).encode()
