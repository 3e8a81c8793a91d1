"""Draw docs/images/demo.png from a finished demo: one edit query, and what each model retrieves.

python docs/images/demo.py puma-demo
"""

from __future__ import annotations

import sys
from pathlib import Path

from puma_cli.demo.examples import pick_examples
from puma_cli.demo.folders import DemoFolders
from puma_cli.demo.outcome import NAMES
from puma_cli.report.gallery_plot import plot_example

TARGET = Path(__file__).with_name("demo.png")


def main(folder: Path) -> None:
    """Write the picture."""
    folders = DemoFolders(folder)
    scores = {name: folders.scores(who) for who, name in NAMES.items()}
    edits = [example for example in pick_examples(folders.scenes, scores) if example.text]
    plot_example(edits[-2]).savefig(TARGET, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
