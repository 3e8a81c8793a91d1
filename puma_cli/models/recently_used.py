"""A memory of bounded size that forgets what was used longest ago."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class RecentlyUsed(Generic[T]):
    """Keeps the most recently used values, up to a total size.

    Args:
        limit: largest total size, in the unit of the sizes given to `put`.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._total = 0
        self._entries: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()

    def get(self, key: Hashable) -> T | None:
        """Return the value kept under `key`, or None."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def put(self, key: Hashable, value: T, size: int) -> None:
        """Keep `value` of `size`; forget the least recently used while the total is too large."""
        if key in self._entries:
            self._total -= self._entries[key][1]
        self._total += size
        self._entries[key] = (value, size)
        self._entries.move_to_end(key)
        while self._total > self._limit and self._entries:
            self._total -= self._entries.popitem(last=False)[1][1]
