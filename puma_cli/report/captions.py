"""How to read each figure of an analysis, and what it cannot say."""

from __future__ import annotations

from puma_cli.profiling.profile import LayerProfile
from puma_cli.report.layer_means import groups_at, was_trimmed

# For readers who cannot see the figures.
LABELS = {
    "readout": "Mean hit rate against decoder layers kept",
    "asymmetric": "Mean hit rate in the full model's index against decoder layers kept",
    "tasks": "Hit rate of each task against decoder layers kept",
    "blocks": "Angular distance over every block of decoder layers, by first layer and size",
    "similarity": "Angular distance, block influence and cosine by decoder layer and modality",
    "cosines": "Plain, centred and trimmed cosine over each decoder layer",
    "cka": "CKA between the states after every two numbers of decoder layers",
}


def caption(name: str, profile: LayerProfile) -> str:
    """Return the sentences below the figure `name`, one of `LABELS`."""
    return {
        "readout": _readout,
        "asymmetric": _asymmetric,
        "tasks": _tasks,
        "blocks": _blocks,
        "similarity": _similarity,
        "cosines": _cosines,
        "cka": _cka,
    }[name](profile)


def _readout(profile: LayerProfile) -> str:
    sentences = [
        "Each point is the model cut after so many decoder layers, its final norm kept and nothing "
        "trained: the state at the embed token, for queries and candidates alike, searched in "
        "each task's own pool."
    ]
    if "bridged" in profile.readings:
        sentences.append(
            "Bridged: with a linear head from the cut's vectors to the full model's, solved in "
            "closed form on training inputs; it finds what a cut knows but says in other "
            "directions."
        )
    if "keep_last" in profile.readings:
        sentences.append(
            "Dashed: cuts of the same number of layers, the last of which is the model's last."
        )
    bands = "The bands are 95% intervals of the share of the full score, for these queries"
    if profile.prediction is None:
        sentences.append(f"{bands}; what training recovers lies beyond any of these curves.")
    else:
        sentences.append(
            "Dotted, with diamonds: what the cut is predicted to score once it is trained. "
            f"{bands}; that of the prediction adds what it was off by on models that it had not "
            "seen."
        )
    return " ".join(sentences)


def _asymmetric(profile: LayerProfile) -> str:
    text = (
        "Candidates embedded once by the full model, queries by the cut: an index that exists "
        "already stays as it is. A curve near the full model's line means that the cut's queries "
        "can replace the model's in front of it. "
    )
    if "first_to_full" in profile.readings:
        text += "Untrained cuts seldom point where the full model does, however well they retrieve "
        text += "among themselves"
        text += "; the bridge turns them back." if "bridged_to_full" in profile.readings else "."
    else:
        text += "Only bridged cuts have vectors of the full model's length."
    return text


def _tasks(profile: LayerProfile) -> str:
    return (
        "A row is a task, a column the untrained cut of so many layers; the denser the cell, the "
        "more queries find their answer first. Tasks differ in how deep they live: one that is "
        "pale inside the frame and dense at the right asks most of the distillation. How much of "
        "it training recovers is not in the picture."
    )


def _blocks(profile: LayerProfile) -> str:
    least = "number in bold" if profile.depth <= 16 else "dot"
    return (
        "A cell is the mean angle, in units of π, between the state at the embed token before a "
        "block of layers and after it: 0 is the same direction, 0.5 an unrelated one. A row holds "
        f"all blocks of one size; the {least} marks the one that turns the state least, and a "
        "cut after k layers removes a block on the upper edge. A block that hardly turns the "
        "state may still carry what retrieval needs: similarity is a weak proxy for it, and the "
        "read-out above is the measure."
    )


def _similarity(profile: LayerProfile) -> str:
    return (
        "What each decoder layer does to the residual stream at the embed token, by side and "
        "modality. Angular distance and block influence compare a layer's input with its output; "
        "a layer near zero hardly turns the vector, and lines apart mean that modalities use it "
        "differently. A small turn may still matter to retrieval, so these are a hint and no "
        "ranking of layers."
    )


def _cosines(profile: LayerProfile) -> str:
    sentences = [
        "Plain: mean cosine of a layer's input and output. Centred: the same of the differences "
        "between inputs, after each depth's mean is taken away."
    ]
    if was_trimmed(profile):
        sentences.append("Trimmed: without the one percent of dimensions that hold most energy.")
    sentences.append(
        "Where the plain curve stays near 1 and another falls, a few large or constant "
        "dimensions hide what the layer does, and plain similarity calls it idle wrongly. A gap "
        "is a state that is the same for every input."
    )
    sinks = sum(entry.excluded for entry in groups_at(profile, "tokens"))
    if sinks:
        sentences.append(f"Attention sinks are left out, {sinks:,} of the sampled tokens.")
    return " ".join(sentences)


def _cka(profile: LayerProfile) -> str:
    return (
        "CKA says how alike the states after two numbers of layers arrange the same inputs, "
        "whatever the axes: 1 is the same arrangement up to rotation and scale, near 0 an "
        "unrelated one; mean over sides and modalities, the cut as lines. Square blocks of high "
        "values are stages of the model. CKA compares whole clouds of points and is led by their "
        "widest spread, while retrieval turns on who is whose nearest neighbour; a blank row is a "
        "state that is the same for every input."
    )
