"""What one billion items take, by k: GPU hours, storage, cost. Computed from rates, not measured.

    python benchmarks/embed/scale.py --rates benchmarks/embed/rates.json --write docs/scale.md

The rates are inputs: items a second of one GPU, as `puma bench` measures them on one's own inputs.
The tables of the page, between its two marks, are written anew; the rest of it stays.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
# Bytes of a number, and of a vector beside its numbers.
FORMATS = {"float32": (4, 0), "float16": (2, 0), "int8": (1, 4)}
SHORT = 256


@dataclass(frozen=True)
class Plan:
    """What is assumed.

    Args:
        items: how many are embedded.
        gpus: sizes of clusters.
        efficiency: share of a GPU's rate that each of many reaches.
        gpu_hour: price of a GPU for an hour.
        gigabyte_month: price of a gigabyte of storage for a month.
        row_bytes: bytes of a row's id, text and path on disk.
    """

    items: int
    gpus: tuple[int, ...]
    efficiency: float
    gpu_hour: float
    gigabyte_month: float
    row_bytes: int


def main() -> None:
    """Print the tables, and write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rates", type=Path, default=Path(__file__).with_name("rates.json"))
    parser.add_argument("--items", type=int, default=1_000_000_000)
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--efficiency", type=float, default=0.85)
    parser.add_argument("--gpu-hour", type=float, default=2.0, metavar="PRICE")
    parser.add_argument("--gigabyte-month", type=float, default=0.023, metavar="PRICE")
    parser.add_argument("--row-bytes", type=int, default=100)
    parser.add_argument("--write", type=Path, metavar="FILE.md")
    asked = parser.parse_args()
    plan = Plan(
        asked.items,
        tuple(asked.gpus),
        asked.efficiency,
        asked.gpu_hour,
        asked.gigabyte_month,
        asked.row_bytes,
    )
    text = tables(json.loads(asked.rates.read_text(encoding="utf-8")), plan)
    print(text)
    if asked.write:
        before, rest = asked.write.read_text(encoding="utf-8").split(BEGIN)
        after = rest.split(END)[1]
        asked.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def tables(given: dict[str, Any], plan: Plan) -> str:
    """Return the two tables, with what they assume."""
    rates: list[dict[str, Any]] = given["rates"]
    how = "measured" if given["measured"] else "themselves computed"
    lines = [
        f"Computed for {plan.items:,} items. The rates are {how}: {given['about']}. Assumed: each "
        f"of many GPUs reaches {plan.efficiency:.0%} of the rate of one, a GPU costs "
        f"{plan.gpu_hour:.2f} an hour, a gigabyte {plan.gigabyte_month:.3f} a month.",
        "",
        "| model | layers | items a second, one GPU | GPU hours | "
        + " | ".join(f"on {n} GPUs" for n in plan.gpus)
        + " | cost | of the whole |",
        "|---" * (6 + len(plan.gpus)) + "|",
    ]
    lines += [time_row(rate, rates, plan) for rate in rates]
    lines += [
        "",
        "| vectors | float32 | float16 | int8 | a month, float16 |",
        "|---|---|---|---|---|",
    ]
    for size in sorted({rate["dimension"] for rate in rates} | {SHORT}, reverse=True):
        lines.append(storage_row(size, plan))
    lines += [
        "",
        f"Vectors alone; ids, texts and paths of {plan.row_bytes} bytes an item are "
        f"{shown_bytes(plan.items * plan.row_bytes)} beside them, before they are compressed.",
    ]
    return "\n".join(lines)


def gpu_hours(rate: float, plan: Plan) -> float:
    """Return the GPU hours of all items at a rate of one GPU."""
    return plan.items / (rate * plan.efficiency) / 3600


def time_row(rate: dict[str, Any], rates: Sequence[dict[str, Any]], plan: Plan) -> str:
    """Return what a cut takes."""
    hours = gpu_hours(rate["items_per_second"], plan)
    whole = next((r for r in rates if r["model"] == rate["model"] and r["layers"] == r["of"]), rate)
    share = whole["items_per_second"] / rate["items_per_second"]
    cells = [
        rate["model"],
        f"{rate['layers']} of {rate['of']}",
        f"{rate['items_per_second']:,.1f}",
        f"{hours:,.0f}",
        *(shown_hours(hours / n) for n in plan.gpus),
        f"{hours * plan.gpu_hour:,.0f}",
        f"{share:.0%}",
    ]
    return f"| {' | '.join(cells)} |"


def vector_bytes(dimension: int, store_dtype: str, plan: Plan) -> int:
    """Return the size of all vectors."""
    number, beside = FORMATS[store_dtype]
    return plan.items * (dimension * number + beside)


def storage_row(dimension: int, plan: Plan) -> str:
    """Return what vectors of a length take on disk."""
    sizes = [vector_bytes(dimension, name, plan) for name in FORMATS]
    month = vector_bytes(dimension, "float16", plan) / 1e9 * plan.gigabyte_month
    cells = [f"{dimension:,} numbers", *map(shown_bytes, sizes), f"{month:,.0f}"]
    return f"| {' | '.join(cells)} |"


def shown_hours(hours: float) -> str:
    """Return a time in hours, or in days."""
    return f"{hours:,.1f} h" if hours < 48 else f"{hours / 24:,.1f} days"


def shown_bytes(size: float) -> str:
    """Return a size in the unit that suits it."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.2f} TB"


if __name__ == "__main__":
    main()
