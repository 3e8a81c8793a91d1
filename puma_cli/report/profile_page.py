"""The report of an analysis: where to cut, why, and everything that was measured."""

from __future__ import annotations

import shlex
from pathlib import Path

from puma_cli.checkpoint.output_folder import write_text
from puma_cli.profiling.profile import LayerProfile
from puma_cli.report.drawing import save_png, to_svg
from puma_cli.report.numbers import count, share
from puma_cli.report.page import Drawing, card, figure, heading, page, paragraph, table
from puma_cli.report.plots import plot_readout, plot_similarity, plot_tasks

REPORT = "report.html"

_CAPTIONS = {
    "readout": (
        "Every point is the model cut after so many decoder layers, its final norm kept, with no "
        "training: h[k] is normed and read at the embed token, for queries and candidates alike, "
        "against the local pool of each task."
    ),
    "similarity": (
        "What each decoder layer does to the residual stream at the embed token. Angular distance "
        "and block influence compare a layer's input with its output; a layer near zero hardly "
        "turns the vector. A small turn may still matter to retrieval, so these are a hint and the "
        "read-out is the measure."
    ),
    "tasks": (
        "Tasks differ in how deep they live; a task that is pale inside the frame and dark at the "
        "right asks most of the distillation."
    ),
}
_LABELS = {
    "readout": "Mean hit rate against decoder layers kept",
    "similarity": "Angular distance, block influence and cosine by decoder layer and modality",
    "tasks": "Hit rate of each task against decoder layers kept",
}


def write_profile_page(profile: LayerProfile, folder: Path, output_dir: str) -> None:
    """Write `report.html` and one PNG for each figure into `folder`.

    Args:
        profile: what was measured.
        folder: where to write.
        output_dir: the folder's final name, for the command to type next.
    """
    drawings = {
        "readout": plot_readout(profile),
        "similarity": plot_similarity(profile),
        "tasks": plot_tasks(profile),
    }
    figures = {}
    for name, drawing in drawings.items():
        save_png(drawing, folder / f"{name}.png")
        figures[name] = Drawing(to_svg(drawing, name, _LABELS[name]), _CAPTIONS[name])
    write_text(folder / REPORT, render(profile, figures, output_dir))


def render(profile: LayerProfile, figures: dict[str, Drawing], output_dir: str) -> str:
    """Return the report as one HTML document."""
    scope = f"{profile.data}, split {profile.split}, {profile.queries:,} queries"
    if profile.partial:
        scope += " (part of each task)"
    sections = [
        _summary(profile, output_dir),
        heading("Retrieval at every depth"),
        figure(figures["readout"]),
        heading("What each cut would cost and keep"),
        table(DEPTH_HEADERS, depth_rows(profile), marked=[profile.recommended - 1]),
        paragraph(
            "Kept: share of the full model's hit@1, untrained. Angle: mean angular distance of the "
            "state after k layers to the final one (0 same direction, 0.5 unrelated). Block "
            "influence: of the last layer kept.",
            note=True,
        ),
        heading("Tasks"),
        figure(figures["tasks"]),
        table(_TASK_HEADERS, _task_rows(profile)),
        heading("Similarity between layers"),
        figure(figures["similarity"]),
        table(_LAYER_HEADERS, _layer_rows(profile)),
        paragraph(
            "Means over all queries and candidates; `profile.json` has them by side and modality. "
            "Centred: cosine after the mean over inputs is taken away, so of the differences "
            "between inputs alone.",
            note=True,
        ),
    ]
    subtitle = f"{profile.depth} decoder layers of width {profile.dimension}, measured on {scope}."
    footer = (
        "Written by puma analyze. profile.json holds these numbers, puma.json how they came about."
    )
    return page(f"Layer profile of {profile.model}", subtitle, sections, footer)


DEPTH_HEADERS = (
    "layers kept",
    "parameters",
    "of full",
    "hit@1",
    "kept",
    "hit@5",
    "angle",
    "block influence",
)


def depth_rows(profile: LayerProfile) -> list[list[str]]:
    """Return the table of all cuts, one row for each depth k = 1 to L, under `DEPTH_HEADERS`."""
    first, fifth = profile.mean("hit@1"), profile.mean("hit@5")
    rows = []
    for k in range(1, profile.depth + 1):
        rows.append(
            [
                str(k),
                count(profile.parameters[k]),
                share(profile.parameters[k], profile.parameters[-1]),
                f"{first[k]:.1%}",
                share(first[k], first[-1]),
                f"{fifth[k]:.1%}",
                f"{profile.angular_to_final(k):.3f}",
                f"{profile.block_influence(k - 1):.3f}",
            ]
        )
    return rows


def prune_command(profile: LayerProfile, output_dir: str) -> str:
    """Return what to type to cut at the recommended depth."""
    name = profile.model.rstrip("/").rsplit("/", 1)[-1].partition("@")[0]
    output = f"{name}-{profile.recommended}"
    words = ["puma", "prune", profile.model, "--profile", output_dir, "--output-dir", output]
    return shlex.join(words)


_TASK_HEADERS = ("task", "queries", "candidates", "hit@1 full", "hit@1 at the cut", "kept")
_LAYER_HEADERS = ("decoder layer", "cosine", "centred", "angular distance", "block influence")


def _summary(profile: LayerProfile, output_dir: str) -> str:
    k, depth = profile.recommended, profile.depth
    left, full = profile.parameters[k], profile.parameters[-1]
    paragraphs = [
        profile.reason,
        f"The cut keeps {count(left)} of {count(full)} parameters ({share(left, full)}). The "
        "recommendation sees the read-out of the untrained cut alone, not how well a depth trains "
        "back: `puma distill`, `puma eval` and `puma compare` show that. "
        "Type this next:",
    ]
    if profile.choice.rule == "whole":
        return card("There is nothing to cut.", [profile.reason])
    headline = f"Cut after layer {k} of {depth}: keep the first {k}."
    if profile.choice.rule == "share":
        headline = f"No depth stands out; {k} of {depth} layers is a customary start."
    return card(headline, paragraphs, prune_command(profile, output_dir))


def _task_rows(profile: LayerProfile) -> list[list[str]]:
    rows = []
    for task in profile.readout:
        full, cut = task.scores["hit@1"][-1], task.scores["hit@1"][profile.recommended]
        rows.append(
            [
                task.task,
                f"{task.queries:,}",
                f"{task.candidates:,}",
                f"{full:.1%}",
                f"{cut:.1%}",
                share(cut, full),
            ]
        )
    return rows


def _layer_rows(profile: LayerProfile) -> list[list[str]]:
    rows = []
    for layer in range(profile.depth):
        cosine = profile.over_inputs([entry.cosine[layer] for entry in profile.similarity])
        angle = profile.over_inputs([entry.angular[layer] for entry in profile.similarity])
        values = [entry.centred[layer] for entry in profile.similarity]
        known = [value for value in values if value is not None]
        centred = f"{profile.over_inputs(known):.3f}" if len(known) == len(values) else "–"
        rows.append([str(layer), f"{cosine:.3f}", centred, f"{angle:.3f}", f"{1 - cosine:.3f}"])
    return rows
