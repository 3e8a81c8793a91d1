"""What the cut at each depth costs and keeps, as a short table for a terminal and a full one."""

from __future__ import annotations

from collections.abc import Sequence

from puma_cli.profiling.profile import PLAIN, LayerProfile
from puma_cli.profiling.recommendation.predictor import Prediction
from puma_cli.profiling.retrieval.readings import CUTS
from puma_cli.profiling.retrieval.retention import Retention
from puma_cli.report.grouped_table import Group, grouped_table
from puma_cli.report.numbers import count, share, size_on_disk, three_digits

BRIDGED = "bridged"
UNKNOWN = "–"


def depth_headers(profile: LayerProfile) -> list[str]:
    """Return the headings of `depth_rows`; short, since a terminal may have 80 columns."""
    trained = [] if profile.prediction is None else ["predicted"]
    return [
        *("layers", "parameters", "hit@1", "kept", "bridged"),
        *trained,
        *("GFLOPs a query", "ms a query"),
    ]


def depth_rows(profile: LayerProfile) -> list[list[str]]:
    """Return the table of all cuts, one row for each depth k = 1 to L, under `depth_headers`.

    They are cut the way that is recommended.
    """
    plain, bridged = CUTS[profile.cut]
    hits = profile.mean("hit@1", plain)
    return [
        [
            str(cost.k),
            count(cost.parameters),
            f"{hits[cost.k]:.1%}" if cost.k in profile.depths(plain) else UNKNOWN,
            kept_of_full(profile, plain, cost.k, interval=False),
            kept_of_full(profile, bridged, cost.k, interval=False),
            *(
                [predicted(profile, profile.cut, cost.k, interval=False)]
                if profile.prediction is not None
                else []
            ),
            gigaflops(cost.flops_query),
            three_digits(cost.latency_query),
        ]
        for cost in profile.costs
    ]


def cost_table(profile: LayerProfile) -> str:
    """Return everything known about the cost and the untrained quality of each cut, as HTML."""
    costs, hits = profile.costs, profile.mean()
    groups = [
        Group("", ["layers kept"], [[str(cost.k)] for cost in costs]),
        Group(
            "size",
            ["parameters", "of full", "weights"],
            [
                [
                    count(cost.parameters),
                    share(cost.parameters, profile.parameters[-1]),
                    size_on_disk(cost.weight_bytes),
                ]
                for cost in costs
            ],
        ),
        Group(
            "GFLOPs",
            ["query", "candidate"],
            [[gigaflops(cost.flops_query), gigaflops(cost.flops_candidate)] for cost in costs],
        ),
        Group(
            "speed",
            ["ms a query", "queries/s", "candidates/s"],
            [
                [
                    three_digits(cost.latency_query),
                    three_digits(cost.queries_per_second),
                    three_digits(cost.candidates_per_second),
                ]
                for cost in costs
            ],
        ),
        Group(
            "untrained",
            ["hit@1", "kept"],
            [[f"{hits[cost.k]:.1%}", kept_of_full(profile, PLAIN, cost.k)] for cost in costs],
        ),
    ]
    if any(cost.peak_memory is not None for cost in costs):
        peaks = [
            [UNKNOWN if cost.peak_memory is None else size_on_disk(cost.peak_memory)]
            for cost in costs
        ]
        groups.insert(-1, Group("memory", ["peak"], peaks))
    if BRIDGED in profile.retention:
        kept = [[kept_of_full(profile, BRIDGED, cost.k)] for cost in costs]
        groups.append(Group("bridged", ["kept"], kept))
    if profile.prediction is not None:
        kept = [[predicted(profile, PLAIN, cost.k)] for cost in costs]
        groups.append(Group("trained", ["predicted"], kept))
    if "keep_last" in profile.retention:
        groups.append(_last_kept(profile))
    return grouped_table(groups, marked=[profile.recommended - 1])


def _last_kept(profile: LayerProfile) -> Group:
    """Return what cuts that keep the last layer keep of the full score."""
    plain, bridged = CUTS["keep_last"]
    columns = {"untrained": plain}
    if bridged in profile.retention:
        columns["bridged"] = bridged
    cells = [
        [kept_of_full(profile, name, cost.k, interval=False) for name in columns.values()]
        for cost in profile.costs
    ]
    names = list(columns)
    if profile.prediction is not None:
        names.append("trained")
        for cost, row in zip(profile.costs, cells, strict=True):
            row.append(predicted(profile, "keep_last", cost.k, interval=False))
    return Group("last layer kept", names, cells)


def cost_notes(profile: LayerProfile) -> list[str]:
    """Return the small print of the full table: how its numbers came about, in paragraphs."""
    how = profile.measured
    timed = [cost.k for cost in profile.costs if cost.measured]
    read_off = (
        ""
        if len(timed) == profile.depth
        else (
            f" Timed were the cuts at k = {listing(timed)}; the other times"
            f"{_and_memory(profile)} are read off a straight line through these."
        )
    )
    return [
        "Kept is the share of the full model's mean hit@1, with its 95% interval in brackets from "
        "drawing the queries again."
        + (
            " Bridged is the same cut with a linear head fitted in closed form, and no training."
            if BRIDGED in profile.retention
            else ""
        )
        + ("" if profile.prediction is None else " " + prediction_note(profile.prediction)),
        f"Times: from tokens on the device to vectors there, median of {how.repeats} passes on "
        f"{how.device} in {how.dtype}; one query alone, and batches of "
        f"{how.batch_size:,}.{read_off}",
        f"FLOPs are counted for the lengths in the data: {how.query_tokens:.1f} tokens a query "
        f"and {how.candidate_tokens:.1f} a candidate on average. The vectors of all candidates "
        f"searched take {size_on_disk(how.index_bytes)} in float16 at the full model's length of "
        f"{profile.dimension:,}, which no cut makes smaller.",
    ]


def prediction_note(prediction: Prediction) -> str:
    """Return how predictions came about and how far they can be trusted, in sentences."""
    known = prediction.fitted_on
    read = "bridged" if prediction.reads == "bridged" else "untrained"
    return " ".join(
        [
            f"Predicted is what the trained cut will keep, from what the {read} cut keeps, as "
            f"fitted on {known.students} students of {len(known.models)} small models "
            f"({listing(known.models)}) trained for {known.steps:,} steps by the recipe "
            f"{known.recipe}; its interval holds what it was off by on models that it had not "
            "seen.",
            *prediction.outside,
        ]
    )


def gigaflops(flops: float) -> str:
    """Return FLOPs in units of 10^9, in three digits."""
    return three_digits(flops / 1e9)


def kept_of_full(profile: LayerProfile, reading: str, k: int, interval: bool = True) -> str:
    """Return the share of the full hit@1 that a reading keeps at depth k, with its interval."""
    if k not in profile.depths(reading):
        return UNKNOWN
    return _in_percent(profile.retention.get(reading), k, interval)


def predicted(profile: LayerProfile, cut: str, k: int, interval: bool = True) -> str:
    """Return the share of the full hit@1 that a trained cut is predicted to keep at depth k."""
    if profile.prediction is None or k not in profile.depths(cut):
        return UNKNOWN
    return _in_percent(profile.prediction.kept.get(cut), k, interval)


def _in_percent(found: Retention | None, k: int, interval: bool) -> str:
    part = None if found is None else found.share[k]
    if found is None or part is None:
        return UNKNOWN
    low, high = found.low[k], found.high[k]
    if not interval or low is None or high is None or low == high:
        return f"{part:.0%}"
    return f"{part:.0%} ({100 * low:.0f}–{100 * high:.0f})"


def listing(numbers: Sequence[object]) -> str:
    """Return numbers or names as a sentence holds them: 1, 2 and 3."""
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last


def _and_memory(profile: LayerProfile) -> str:
    return " and memory" if any(cost.peak_memory is not None for cost in profile.costs) else ""
