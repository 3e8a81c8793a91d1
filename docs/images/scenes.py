"""Draws docs/images/scenes.png: `python docs/images/scenes.py`."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from random import Random
from textwrap import fill

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from PIL import Image

from puma_cli.data.scenes.changes import edits_to
from puma_cli.data.scenes.drawing import draw
from puma_cli.data.scenes.families import make_plan, twins
from puma_cli.data.scenes.phrasing import ask, describe, say_ground
from puma_cli.data.scenes.scene import Scene, Wish

COLUMNS = 8
GREEN, GREY = "#2e9e4f", "#cccccc"


def show(axes: Axes, scene: Scene, rng: Random, caption: str = "", neutral: bool = False) -> None:
    """Draw `scene` in its frame, `caption` below."""
    content = draw(scene, rng, shading=6, neutral=neutral)
    with Image.open(BytesIO(content)) as picture:
        axes.imshow(picture.convert("RGB"))
    axes.set_xlabel(caption, fontsize=6)
    axes.spines[:].set(visible=True, color=GREY)


def main() -> None:
    """Write the picture beside this file."""
    rng = Random(0)
    targets = make_plan(0, 1, 12, 1).targets["test"]
    figure, rows = plt.subplots(3, COLUMNS, figsize=(9.6, 4.3), dpi=100)
    for axes in rows.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for row, (target, source) in zip(rows, (targets[6], targets[4], targets[3]), strict=True):
        candidates = [target, *twins(target, rng, lambda _: True)]
        place = row[0].get_subplotspec().rowspan.start
        if place == 0:
            query = fill(describe(Wish(target), 1), 18)
            row[0].text(0.5, 0.5, query, ha="center", va="center", fontsize=7)
        else:
            edits = [e for kind in edits_to(target).values() for e in kind if e.source == source]
            show(row[0], source, rng, ask(edits[0].change, source, rng))
            candidates.insert(1, source)
        title = ("words to image", "edit to image", "edit to image+text")[place]
        row[0].set_title(f"task {(0, 7, 8)[place]}: {title}", fontsize=7, loc="left")
        unique = list(dict.fromkeys(candidates))[: COLUMNS - 1]
        for axes, scene in zip(row[1:], unique, strict=False):
            both = place == 2
            show(axes, scene, rng, say_ground(scene) if both else "", neutral=both)
            if scene == target:
                axes.spines[:].set(color=GREEN, linewidth=3)
    figure.subplots_adjust(left=0.02, right=0.98, top=0.94, bottom=0.06, wspace=0.25, hspace=0.3)
    figure.savefig(Path(__file__).with_suffix(".png"), metadata={"Software": None})


if __name__ == "__main__":
    main()
