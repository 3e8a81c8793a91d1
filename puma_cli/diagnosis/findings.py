"""What an examination of the installation found."""

from __future__ import annotations

from dataclasses import dataclass

GOOD, ABSENT, BAD = "good", "absent", "bad"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        area: `packages`, `optional`, `machine` or `self-test`.
        name: what it is.
        value: what was found, such as a version.
        state: `good`, `absent` (optional, and not there) or `bad`.
        problem: what is wrong, one sentence; empty unless the state is `bad`.
        hint: what mends it, or what an absent part is for.
    """

    area: str
    name: str
    value: str
    state: str = GOOD
    problem: str = ""
    hint: str = ""
