"""The other tables of an analysis: parameters by part, tasks, layers and bridges."""

from __future__ import annotations

from puma_cli.profiling.bridges.bridge import BridgeFit
from puma_cli.profiling.profile import PLAIN, LayerProfile
from puma_cli.profiling.retrieval.readings import CUTS
from puma_cli.report.depth_table import BRIDGED, UNKNOWN
from puma_cli.report.grouped_table import Group, grouped_table
from puma_cli.report.layer_means import mean_over, was_trimmed
from puma_cli.report.numbers import count, share
from puma_cli.report.page import table

BRIDGE_NAMES = {BRIDGED: "first k layers", "keep_last_bridged": "first k − 1 and the last"}


def parts_table(profile: LayerProfile) -> str:
    """Return the parameters of each part, in the full model and in the recommended cut."""
    parts, k, depth = profile.parts, profile.recommended, profile.depth
    rows = [
        ("token embeddings", parts.embedding, parts.embedding),
        ("vision tower", parts.vision, parts.vision),
        (_say_layers(parts.layers), sum(parts.layers), sum(parts.layers[:k])),
        ("final norm and the rest", parts.rest, parts.rest),
    ]
    if parts.head:
        # Fitted to the states of the last layer; a cut goes without.
        rows.append(("linear head", parts.head, parts.head if k == depth else 0))
    rows.append(("all", profile.parameters[-1], profile.parameters[k]))
    return table(
        ("part", "full model", "of full", f"cut at k = {k}", "of the cut"),
        [
            [name, count(full), share(full, rows[-1][1]), count(cut), share(cut, rows[-1][2])]
            for name, full, cut in rows
        ],
    )


def task_table(profile: LayerProfile) -> str:
    """Return each task's score in full, at the cut, and at the cut with its bridge."""
    k, full = profile.recommended, [task.scores[PLAIN]["hit@1"][-1] for task in profile.readout]
    full.append(profile.mean()[-1])
    names = [[task.task, f"{task.queries:,}", f"{task.candidates:,}"] for task in profile.readout]
    names.append(["mean", f"{profile.queries:,} in all", ""])
    groups = [
        Group("", ["task", "queries", "candidates"], names),
        Group("full model", ["hit@1"], [[f"{score:.1%}"] for score in full]),
    ]
    for reading, title in zip(CUTS[profile.cut], ("untrained", "bridged"), strict=True):
        if reading in profile.readings:
            at_cut = [task.scores[reading]["hit@1"][k] for task in profile.readout]
            at_cut.append(profile.mean("hit@1", reading)[k])
            cells = [
                [f"{score:.1%}", share(score, whole)]
                for score, whole in zip(at_cut, full, strict=True)
            ]
            groups.append(Group(f"cut at k = {k}, {title}", ["hit@1", "kept"], cells))
    return grouped_table(groups)


def layer_table(profile: LayerProfile) -> str:
    """Return what each layer does to the state at the embed token, over all inputs."""
    cosines = {"cosine": "plain", "centred": "centred"}
    if was_trimmed(profile):
        cosines["trimmed"] = "trimmed"
    turns = {"angular": "angular distance", "block_influence": "block influence"}
    groups = [Group("", ["decoder layer"], [[str(layer)] for layer in range(profile.depth)])]
    for name, fields in (("cosine of input and output", cosines), ("change", turns)):
        cells = [
            [_mean(profile, field, layer) for field in fields] for layer in range(profile.depth)
        ]
        groups.append(Group(name, list(fields.values()), cells))
    return grouped_table(groups)


def bridge_table(profile: LayerProfile) -> str:
    """Return how well the bridge of each cut fits."""
    depths = sorted({fit.k for found in profile.bridges.values() for fit in found})
    groups = [Group("", ["layers kept"], [[str(k)] for k in depths])]
    for name, found in profile.bridges.items():
        if not found:
            continue
        fits = {fit.k: fit for fit in found}
        groups.append(
            Group(
                BRIDGE_NAMES.get(name, name),
                ["cosine before", "after", "error", "penalty"],
                [_describe(fits.get(k)) for k in depths],
            )
        )
    cut = [row for row, k in enumerate(depths) if k == profile.recommended]
    return grouped_table(groups, marked=cut)


def bridge_note(profile: LayerProfile) -> str:
    """Return the small print of the bridges' table."""
    fits = [fit for found in profile.bridges.values() for fit in found]
    rows, held = (_span([getattr(fit, field) for fit in fits]) for field in ("rows", "held_out"))
    return (
        f"Fitted on {rows} training inputs, {held} of them held out to choose the penalty and to "
        "measure these numbers. Cosine: mean cosine to the full model's vectors, of the cut's own "
        "vectors and of the mapped ones. Error: mean squared distance of the mapped vectors to the "
        "full model's unit vectors. Penalty: of the ridge regression, relative to the mean "
        "eigenvalue of the inputs' covariance."
    )


def has_bridges(profile: LayerProfile) -> bool:
    """Tell whether any bridge was fitted."""
    return any(profile.bridges.values())


def _mean(profile: LayerProfile, field: str, layer: int) -> str:
    entries = profile.at_embed
    mean = mean_over(entries, [getattr(entry, field)[layer] for entry in entries])
    return UNKNOWN if mean is None else f"{mean:.3f}".replace("-", "−")


def _describe(fit: BridgeFit | None) -> list[str]:
    if fit is None:
        return [UNKNOWN] * 4
    before = UNKNOWN if fit.cosine_before is None else f"{fit.cosine_before:.3f}"
    return [before, f"{fit.cosine:.3f}", f"{fit.error:.3f}", f"{fit.strength:.2g}"]


def _say_layers(layers: tuple[int, ...]) -> str:
    if len(set(layers)) == 1:
        return f"{len(layers)} decoder layers, {count(layers[0])} each"
    return f"{len(layers)} decoder layers"


def _span(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
