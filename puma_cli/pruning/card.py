"""The model card of a cut checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from puma_cli.checkpoint.card import inherited_metadata, write_card
from puma_cli.checkpoint.inspection import say_layers
from puma_cli.checkpoint.provenance import Parent
from puma_cli.checkpoint.source import Source
from puma_cli.models.usage import usage_of
from puma_cli.pruning.planning.head_choice import UNUSED
from puma_cli.pruning.planning.plan import PrunePlan
from puma_cli.report.numbers import count, size_on_disk

if TYPE_CHECKING:
    from puma_cli.profiling.bridges.bridge import Bridge
    from puma_cli.pruning.proof.parity import Parity


def write_cut_card(
    folder: Path,
    title: str,
    source: Source,
    plan: PrunePlan,
    parent: Parent,
    *,
    parity: Parity | None,
    bridge: Bridge | None,
    embeds: bool,
) -> None:
    """Write the card of the cut checkpoint in `folder`: parent, kept layers, licence, proof.

    Args:
        embeds: whether puma can embed with the model; only then the card has code for it.
    """
    metadata = inherited_metadata(plan.folder)
    if source.repository:
        metadata["base_model"] = source.repository.partition("@")[0]
    write_card(
        folder,
        title,
        summary=_summary(source.name, plan, bridge),
        facts=list(_facts(plan, parent, parity, bridge)),
        usage=usage_of(folder) if embeds else "",
        metadata=metadata,
    )


def _summary(name: str, plan: PrunePlan, bridge: Bridge | None) -> str:
    headless = any(drop.reason == UNUSED for drop in plan.dropped)
    text = (
        f"The model {name} with {len(plan.kept)} of its {plan.depth} decoder layers, cut by puma "
        "and not trained since. All other weights are the parent's"
        f"{', but its LM head is left out' if headless else ''}."
    )
    if bridge is None:
        return f"{text} Retrieval with it is weak until it is trained with `puma distill`."
    fit = bridge.fit
    return (
        f"{text}\n\nA linear head, `bridge.safetensors`, leads its vectors into the parent's own "
        f"space. It was fitted in closed form on {fit.rows:,} inputs; on held-out ones the mean "
        f"cosine to the parent's vectors is {fit.cosine:.3f}. `puma` applies it; plain "
        "`AutoModel` gives the vectors before it."
    )


def _facts(
    plan: PrunePlan, parent: Parent, parity: Parity | None, bridge: Bridge | None
) -> list[tuple[str, str]]:
    before, after = plan.parameters
    sizes = size_on_disk(plan.bytes_after), size_on_disk(plan.bytes_before)
    facts = [
        ("parent", parent.name),
        ("parent's fingerprint", parent.fingerprint),
        ("kept decoder layers", f"{say_layers(list(plan.kept))} of {plan.depth}"),
        ("parameters", f"{count(after)} (parent: {count(before)})"),
        ("weights", f"{sizes[0]} (parent: {sizes[1]})"),
    ]
    if parity is not None:
        facts.append(("compared with the parent", f"{parity.verdict}, {parity.reference}"))
    if bridge is not None and bridge.fit.cosine_before is not None:
        facts.append(
            (
                "mean cosine to the parent's vectors",
                f"{bridge.fit.cosine_before:.3f}, with the head {bridge.fit.cosine:.3f}",
            )
        )
    return facts
