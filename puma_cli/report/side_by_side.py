"""Several profiles in two tables: where each is cut, and what each depth keeps."""

from __future__ import annotations

from collections.abc import Sequence

from puma_cli.profiling.comparison import ProfileComparison
from puma_cli.profiling.profile import PLAIN, LayerProfile
from puma_cli.profiling.retrieval.readings import CUTS
from puma_cli.report.depth_table import (
    BRIDGED,
    UNKNOWN,
    kept_of_full,
    predicted,
)
from puma_cli.report.numbers import count, share, three_digits


def cut_rows(comparison: ProfileComparison) -> list[list[str]]:
    """Return what is to be known of each profile and its recommended cut, a row for each fact."""
    facts = [_facts(profile) for profile in comparison.profiles]
    return [[name, *(found[name] for found in facts)] for name in facts[0]]


def kept_headers(names: Sequence[str]) -> list[str]:
    """Return the headings of `kept_rows`."""
    return ["layers", *(f"{name} {what}" for name in names for what in ("kept", "bridged"))]


def kept_rows(comparison: ProfileComparison) -> list[list[str]]:
    """Return what the cut at each depth keeps of the full hit@1, untrained and with a bridge."""
    return [
        [
            str(k),
            *(
                kept_of_full(profile, reading, k) if k <= profile.depth else UNKNOWN
                for profile in comparison.profiles
                for reading in (PLAIN, BRIDGED)
            ),
        ]
        for k in range(1, comparison.depth + 1)
    ]


def _facts(profile: LayerProfile) -> dict[str, str]:
    k = profile.recommended
    cost = profile.costs[k - 1]
    plain, bridged = CUTS[profile.cut]
    return {
        "data": f"{profile.data}, {profile.split}",
        "queries": f"{profile.queries:,}{' (part)' if profile.partial else ''}",
        "full hit@1": f"{profile.mean()[-1]:.1%}",
        "recommended": f"{k} of {profile.depth} layers"
        + (", the last among them" if profile.choice.keep_last else ""),
        "rule": profile.choice.rule,
        "parameters": f"{count(cost.parameters)} "
        f"({share(cost.parameters, profile.parameters[-1])} of full)",
        "kept untrained": kept_of_full(profile, plain, k),
        "kept bridged": kept_of_full(profile, bridged, k),
        "kept trained (predicted)": predicted(profile, profile.cut, k),
        "ms a query": f"{three_digits(cost.latency_query)} "
        f"({three_digits(profile.costs[-1].latency_query)} in full)",
    }
