"""What a row can lack."""

from __future__ import annotations

NO_QUERY = "without a query"
NO_POSITIVE = "without a positive"
NO_IMAGE = "whose image file is not there"


class IncompleteError(ValueError):
    """A row that is well-formed but lacks its query, its positive or an image file.

    Args:
        kind: one of the three above.
        problem: what is missing, one sentence.
        hint: what can be done about it.
    """

    def __init__(self, kind: str, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.kind = kind
        self.hint = hint
