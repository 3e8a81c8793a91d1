"""The report of an analysis: where to cut, why, and everything that was measured."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from puma_cli.checkpoint.output_folder import write_text
from puma_cli.profiling.profile import LayerProfile
from puma_cli.profiling.recommendation.explained_choice import NO_CUT
from puma_cli.report.captions import LABELS, caption
from puma_cli.report.depth_table import cost_notes, cost_table, depth_headers, depth_rows
from puma_cli.report.drawing import save_png, to_svg
from puma_cli.report.layer_plots import plot_blocks, plot_cka, plot_cosines, plot_similarity
from puma_cli.report.numbers import count, share
from puma_cli.report.page import Drawing, card, escape, figure, heading, page, paragraph
from puma_cli.report.plots import ASYMMETRIC, plot_asymmetric, plot_readout, plot_tasks
from puma_cli.report.profile_tables import (
    bridge_note,
    bridge_table,
    has_bridges,
    layer_table,
    parts_table,
    task_table,
)

__all__ = ["depth_headers", "depth_rows", "prune_command", "render", "write_profile_page"]

REPORT = "report.html"


def write_profile_page(profile: LayerProfile, folder: Path, output_dir: str) -> None:
    """Write `report.html` and one PNG for each figure into `folder`.

    Args:
        profile: what was measured.
        folder: where to write.
        output_dir: the folder's final name, for the command to type next.
    """
    figures = {}
    for name, drawing in draw_figures(profile).items():
        save_png(drawing, folder / f"{name}.png")
        figures[name] = Drawing(to_svg(drawing, name, LABELS[name]), caption(name, profile))
    write_text(folder / REPORT, render(profile, figures, output_dir))


def draw_figures(profile: LayerProfile) -> dict[str, Figure]:
    """Return the figures that the profile has measurements for, by name."""
    figures = {
        "readout": plot_readout(profile),
        "tasks": plot_tasks(profile),
        "blocks": plot_blocks(profile),
        "similarity": plot_similarity(profile),
        "cosines": plot_cosines(profile),
    }
    if not set(ASYMMETRIC).isdisjoint(profile.readings):
        figures["asymmetric"] = plot_asymmetric(profile)
    cka = plot_cka(profile)
    if cka is not None:
        figures["cka"] = cka
    return figures


def render(profile: LayerProfile, figures: Mapping[str, Drawing], output_dir: str) -> str:
    """Return the report as one HTML document.

    Args:
        profile: what was measured.
        figures: by name, from `draw_figures`; one that is missing takes its heading with it.
        output_dir: the profile's folder, for the command to type next.
    """
    sections = [
        _summary(profile, output_dir),
        heading("Retrieval at every depth"),
        figure(figures["readout"]),
        *([figure(figures["asymmetric"])] if "asymmetric" in figures else []),
        heading("What each cut costs and keeps"),
        cost_table(profile),
        *(paragraph(note, note=True) for note in cost_notes(profile)),
        _subheading("Parameters by part"),
        parts_table(profile),
        heading("Tasks"),
        figure(figures["tasks"]),
        task_table(profile),
        heading("Similarity between layers"),
        _subheading("Blocks of layers"),
        figure(figures["blocks"]),
        _subheading("Layer by layer"),
        figure(figures["similarity"]),
        layer_table(profile),
        paragraph(
            "Means over all queries and candidates at the embed token; `profile.json` has them by "
            "side, place and modality.",
            note=True,
        ),
        _subheading("When a few dimensions dominate"),
        figure(figures["cosines"]),
    ]
    if "cka" in figures:
        sections += [_subheading("CKA of every two depths"), figure(figures["cka"])]
    if has_bridges(profile):
        sections += [
            heading("How well the bridges fit"),
            bridge_table(profile),
            paragraph(bridge_note(profile), note=True),
        ]
    scope = f"{profile.data}, split {profile.split}, {profile.queries:,} queries"
    if profile.measured.stopped:
        scope += " (stopped early)"
    elif profile.partial:
        scope += " (part of each task)"
    subtitle = (
        f"{profile.depth} decoder layers, embeddings of length {profile.dimension:,}, "
        f"measured on {scope}."
    )
    footer = (
        "Written by puma analyze. profile.json holds these numbers, puma.json how they came about."
    )
    return page(f"Layer profile of {profile.model}", subtitle, sections, footer)


def prune_command(profile: LayerProfile, output_dir: str) -> str:
    """Return what to type to cut at the recommended depth, or nothing where no cut is."""
    if profile.choice.rule in NO_CUT:
        return ""
    name = profile.model.rstrip("/").rsplit("/", 1)[-1].partition("@")[0]
    output = f"{name}-{profile.recommended}"
    words = ["puma", "prune", profile.model, "--profile", output_dir, "--output-dir", output]
    return shlex.join(words)


def _subheading(text: str) -> str:
    return f"<h3>{escape(text)}</h3>"


def _summary(profile: LayerProfile, output_dir: str) -> str:
    k, choice = profile.recommended, profile.choice
    left, full = profile.parameters[k], profile.parameters[-1]
    second = [] if choice.runner_up is None else [f"Runner-up: {choice.runner_up_reason}"]
    doubts = ["The prediction is a guess here. " + " ".join(profile.doubts)] * bool(profile.doubts)
    if choice.rule in NO_CUT:
        return card(_headline(profile), [profile.reason, *second, *doubts])
    paragraphs = [
        profile.reason,
        f"The cut keeps {count(left)} of {count(full)} parameters ({share(left, full)}).",
        *second,
        *doubts,
        "What a depth trains back to, `puma distill`, `puma eval` and `puma compare` show. Type "
        "this next:",
    ]
    return card(_headline(profile), paragraphs, prune_command(profile, output_dir))


def _headline(profile: LayerProfile) -> str:
    k, depth, choice = profile.recommended, profile.depth, profile.choice
    if choice.rule == "unmet":
        return "No cut is what was asked for."
    if choice.rule == "whole":
        return "There is nothing to cut." if depth == 1 else "Nothing needs to be cut."
    if choice.rule == "share":
        return f"No depth stands out; {k} of {depth} layers is a customary start."
    if choice.keep_last:
        return f"Keep {k} of {depth} layers: the first {k - 1} and the last."
    return f"Cut after layer {k} of {depth}: keep the first {k}."
