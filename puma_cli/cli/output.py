"""The one place where results reach standard output and talk reaches standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Mode = Literal["human", "json", "quiet"]

# A pipe has no width; cutting cells off at 80 columns would lose data.
_PIPE_WIDTH = 200


@dataclass(frozen=True)
class Table:
    """Rows to show under headings; columns of numbers stand to the right.

    Args:
        columns: headings.
        rows: cells as text, as many as columns.
        title: a line above the table.
        strong: indices of rows that stand out.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    strong: Sequence[int] = ()


@dataclass(frozen=True)
class Outcome:
    """What a command has to say when it succeeded.

    Args:
        value: the one thing a script wants: a path, a number.
        payload: the whole result as plain JSON.
        body: tables and lines for a reader, in order.
        next_command: what to type next.
    """

    value: str
    payload: Mapping[str, Any]
    body: Sequence[Table | str] = field(default_factory=tuple)
    next_command: str = ""


class Output:
    """Prints outcomes in the mode asked for.

    Args:
        mode: `human`, `json` (one object on standard output) or `quiet` (one value).
    """

    def __init__(self, mode: Mode = "human") -> None:
        self.mode = mode

    def emit(self, outcome: Outcome) -> None:
        """Print `outcome` to standard output; the next step goes to standard error."""
        if self.mode == "json":
            payload = {**outcome.payload, "next": outcome.next_command or None}
            self.text(json.dumps(payload, indent=2, ensure_ascii=False))
        elif self.mode == "quiet":
            self.text(outcome.value)
        else:
            self._show(outcome)

    def text(self, text: str) -> None:
        """Print `text` to standard output as it is."""
        sys.stdout.write(text.rstrip("\n") + "\n")
        sys.stdout.flush()

    def talk(self, text: str) -> None:
        """Print `text` to standard error, unless asked to be quiet."""
        if self.mode != "quiet":
            complain(text)

    def _show(self, outcome: Outcome) -> None:
        for part in outcome.body:
            self.text(part if isinstance(part, str) else _draw(part))
        if outcome.next_command:
            self.talk(f"Next: {outcome.next_command}")


def complain(text: str) -> None:
    """Print `text` to standard error in every mode."""
    sys.stderr.write(text.rstrip("\n") + "\n")
    sys.stderr.flush()


def _draw(table: Table) -> str:
    """Return `table` as lines that fit standard output, in bold only on a terminal."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, emoji=False)
    with console.capture() as captured:
        console.print(_rich_table(table, console.width))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _rich_table(table: Table, width: int) -> Any:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    # Two blanks around a column, and one between columns.
    needed = sum(_least(table, index) + 3 for index in range(len(table.columns))) - 1
    narrow = needed > width
    drawn = RichTable(title=table.title or None, title_justify="left", box=box.SIMPLE_HEAD)
    for index, heading in enumerate(table.columns):
        numeric = all(_is_number(row[index]) for row in table.rows)
        drawn.add_column(
            Text(heading),
            justify="right" if numeric else "left",
            overflow="fold",
            min_width=max(map(len, heading.split()), default=1),
            # The name of a row stays whole in a narrow window, and headings wrap instead, unless
            # that would push other columns out of sight.
            no_wrap=index == 0 and len(table.columns) > 2 and not narrow,
        )
    for index, row in enumerate(table.rows):
        style = "bold" if index in table.strong else None
        drawn.add_row(*(Text(cell) for cell in row), style=style)
    return drawn


def _least(table: Table, index: int) -> int:
    """Return the characters that a column needs: the first its names, the others their words."""
    cells = [row[index] for row in table.rows]
    words = [*table.columns[index].split(), *(w for cell in cells for w in cell.split())]
    return max(map(len, cells if index == 0 and cells else words), default=1)


def _is_number(cell: str) -> bool:
    return not cell.strip("-–—") or cell.lstrip("+-−[ ")[:1].isdigit()
