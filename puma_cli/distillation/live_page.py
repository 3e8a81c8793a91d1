"""The page of a training while it runs, drawn as seldom as not to be felt."""

from __future__ import annotations

import time
from pathlib import Path

from puma_cli.progress import Reporter

# Seconds between two drawings (>= 0), and their largest share of the time.
EVERY = 60.0
SHARE = 0.02


class LivePage:
    """Draws `training.html` of an output folder.

    Args:
        folder: the output folder, with the training's log.
        reporter: told if the page cannot be drawn.
    """

    def __init__(self, folder: Path, reporter: Reporter) -> None:
        self._folder, self._reporter = folder, reporter
        self._next = time.monotonic() + EVERY

    def draw(self) -> None:
        """Draw the page as the log now stands."""
        began = time.monotonic()
        try:
            from puma_cli.report.training_page import write_training_page

            write_training_page(self._folder)
        # Days of training are not lost to a picture of them, whatever is wrong with it.
        except Exception as error:
            self._reporter.note(f"The page of the training could not be drawn: {error}")
        ended = time.monotonic()
        self._next = ended + max(EVERY, (ended - began) / SHARE)

    def draw_if_due(self) -> None:
        """Draw the page, unless that was done a short while ago."""
        if time.monotonic() >= self._next:
            self.draw()
