"""Which inner depths of a student are compared with which of its teacher."""

from __future__ import annotations

from collections.abc import Sequence

from puma_cli.errors import ConfigError

NO_HINTS: tuple[list[int], list[int]] = ([], [])


def hint_depths(
    student: int, teacher: int, chosen: Sequence[int] = ()
) -> tuple[list[int], list[int]]:
    """Return depths of the student, and of the teacher at the same share of its layers.

    Args:
        student: the student's number of layers k.
        teacher: the teacher's number of layers L.
        chosen: depths of the student (1 to k - 1); by default all.

    Raises:
        ConfigError: there is no such depth.
    """
    depths = sorted(set(chosen)) or list(range(1, student))
    if not depths or depths[0] < 1 or depths[-1] >= student:
        raise ConfigError(
            f"loss.hints compares inner depths of the student, but it has {student} layers"
            + (f" and loss.hint_depths names {depths[-1]}." if depths else "."),
            hint=f"Name depths from 1 to {student - 1}, or set loss.hints=0.",
        )
    return depths, [max(1, round(depth * teacher / student)) for depth in depths]
