"""What an analysis costs beside a plain forward pass over the same inputs, in time and memory.

    python benchmarks/analyze/overhead.py --data runs/scenes --write runs/analyze-speed.md

The plain pass embeds the same queries, candidates and training rows in the same batches. Ways take
turns, each in a process of its own; a process times its passes itself, without loading and drawing.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

WAYS = {
    "plain": "one plain forward pass",
    "core": "similarity at the embed token, untrained retrieval, bridges of first layers",
    "all": "the same with CKA, further tokens and keep-last cuts",
}
LIMITS = {"core": 1.15, "all": 1.4}
MEMORY_LIMIT = 1.2


def main() -> None:
    """Run the ways in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="puma-mini")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.way:
        print(json.dumps(run(asked)))
        return
    found: dict[str, list[dict]] = {way: [] for way in WAYS}
    for number in range(asked.rounds):
        order = list(WAYS)[number % len(WAYS) :] + list(WAYS)[: number % len(WAYS)]
        for way in order:
            command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
            found[way].append(json.loads(output))
            print(f"round {number + 1}, {way}: {found[way][-1]['seconds']:.1f} s", file=sys.stderr)
    page = table(asked, found)
    if asked.write:
        asked.write.write_text(page, encoding="utf-8")
    print(page)


def run(asked: argparse.Namespace) -> dict:
    """Do the work of one way; return its seconds and bytes."""
    from puma_cli import load
    from puma_cli.config.layers import first_layers, keep_last_layers
    from puma_cli.data.mbeir import MbeirFolder
    from puma_cli.profiling.bridges.bridge import HELD_OUT, fit_bridges
    from puma_cli.profiling.bridges.training_rows import bridge_rows
    from puma_cli.profiling.plan import memory_needed
    from puma_cli.profiling.retrieval.readout import read_out_depths
    from puma_cli.profiling.sampling import draw_sample

    data = MbeirFolder(asked.data)
    embedder = load(asked.model, asked.device)
    depth, size = embedder.depth, asked.batch_size
    sample = draw_sample(data, asked.split, samples=asked.samples, pool=10**6)
    fitted, judged = bridge_rows(data, asked.rows, HELD_OUT, 0)
    warm = [*sample.queries[:size], *sample.candidates[:size]]
    embedder.encode(warm, size)
    began = time.perf_counter()
    if asked.way == "plain":
        positives = sample.candidates[: sample.positives]
        others = sample.candidates[sample.positives :]
        for inputs in ([*judged, *fitted], sample.queries, positives, others):
            embedder.encode(inputs, size)
    else:
        full = asked.way == "all"
        cuts = [first_layers(k, depth) for k in range(1, depth)]
        last = [keep_last_layers(k, depth) for k in range(2, depth)] if full else []
        bridges = list(fit_bridges(embedder, [*cuts, *last], fitted, judged, batch_size=size))
        maps = {"bridged": bridges[: len(cuts)], "keep_last_bridged": bridges[len(cuts) :]}
        read_out_depths(embedder, sample, maps, keep_last=full, tokens=full, batch_size=size)
    seconds = time.perf_counter() - began
    memory, _, _ = memory_needed(
        depth=depth,
        width=embedder.width,
        outputs=embedder.dimension,
        held=len(sample.queries) + sample.positives,
        rows=len(fitted) + len(judged),
        keep_last=asked.way == "all",
        tokens=asked.way == "all",
    )
    return {
        "seconds": seconds,
        # Linux counts kilobytes.
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "stated": sum(memory.values()) if asked.way != "plain" else 0,
        "queries": len(sample.queries),
        "candidates": len(sample.candidates),
        "rows": len(fitted) + len(judged),
    }


def table(asked: argparse.Namespace, found: dict[str, list[dict]]) -> str:
    """Return the results as Markdown, each way beside the plain pass of its own round."""
    import torch

    first = found["plain"][0]
    lines = [
        f"{asked.model}: {first['queries']:,} queries, {first['candidates']:,} candidates, "
        f"{first['rows']:,} training rows, batches of {asked.batch_size}, {asked.device}, "
        f"{asked.rounds} rounds in which the ways took turns.",
        "",
        f"Command: `python benchmarks/analyze/overhead.py --samples {asked.samples} "
        f"--rows {asked.rows} --rounds {asked.rounds}`. Machine: {platform.machine()}, "
        f"{torch.get_num_threads()} CPU threads, torch {torch.__version__.partition('+')[0]}.",
        "",
        "| way | seconds, median (lowest to highest) | times the plain pass, median | limit | "
        "peak memory | accumulators, as stated |",
        "|---|---|---|---|---|---|",
    ]
    plain = [entry["seconds"] for entry in found["plain"]]
    for way, label in WAYS.items():
        seconds = [entry["seconds"] for entry in found[way]]
        ratio = statistics.median(s / p for s, p in zip(seconds, plain, strict=True))
        memory = max(entry["memory"] for entry in found[way])
        lines.append(
            f"| {label} | {statistics.median(seconds):.1f} ({min(seconds):.1f} to "
            f"{max(seconds):.1f}) | {ratio:.3f} | {LIMITS.get(way, '')} | {memory / 1e6:.0f} MB | "
            f"{found[way][0]['stated'] / 1e6:.0f} MB |"
        )
    lines += ["", *verdicts(found, plain)]
    return "\n".join(lines) + "\n"


def verdicts(found: dict[str, list[dict]], plain: Sequence[float]) -> list[str]:
    """Return a line for each limit."""
    lines = []
    base = max(entry["memory"] for entry in found["plain"])
    for way, limit in LIMITS.items():
        ratio = statistics.median(
            entry["seconds"] / p for entry, p in zip(found[way], plain, strict=True)
        )
        verdict = "yes" if ratio <= limit else "NO"
        lines.append(f"- {verdict}: {way} takes {ratio:.2f} times the plain pass; at most {limit}.")
        memory = max(entry["memory"] for entry in found[way])
        allowed = MEMORY_LIMIT * base + found[way][0]["stated"]
        lines.append(
            f"- {'yes' if memory <= allowed else 'NO'}: {way} peaks at {memory / 1e6:.0f} MB; at "
            f"most {MEMORY_LIMIT} times the plain pass and what is stated, {allowed / 1e6:.0f} MB."
        )
    return lines


if __name__ == "__main__":
    main()
