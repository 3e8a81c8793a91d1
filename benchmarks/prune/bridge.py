"""What the training-free bridge is worth: retrieval on `scenes` by a cut with and without it.

Run with: python benchmarks/prune/bridge.py --output bridge.md
Takes some ten minutes on two cores; `--scenes 300 --targets 20` is a quick look.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import puma_cli
from puma_cli import PruneSettings
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.evaluation.encode import Encoder
from puma_cli.evaluation.results import Scores
from puma_cli.evaluation.scoring import evaluate_embedder
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from puma_cli.profiling.bridges.bridge import Bridge
from puma_cli.progress import SILENT, Reporter
from puma_cli.pruning.bridge import fit_bridge, write_bridge

METRIC = "hit@1"


class Remembering:
    """An embedder that embeds each side of the benchmark once."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self._known: dict[str, tuple[list[Input], Tensor]] = {}

    def encode(self, inputs: Sequence[Input], batch_size: int, label: str) -> Tensor:
        """Return the embeddings of one side (N, D)."""
        known, vectors = self._known.get(label, ([], torch.empty(0)))
        if known != list(inputs):
            vectors = self.embedder.encode(inputs, batch_size, label=label)
            self._known[label] = list(inputs), vectors
        return vectors


@dataclass(frozen=True)
class Sides:
    """An encoder whose queries and candidates are embedded by two models."""

    queries: Remembering
    candidates: Remembering

    @property
    def model(self) -> Any:
        """The network behind the queries."""
        return self.queries.embedder.model

    @property
    def device(self) -> torch.device:
        """Where scores are computed."""
        return self.queries.embedder.device

    def encode(
        self,
        inputs: Sequence[Input],
        batch_size: int = 128,
        reporter: Reporter = SILENT,
        label: str = "encode",
    ) -> Tensor:
        """Return L2-normalised embeddings of the side that `label` names (N, D)."""
        side = self.candidates if label == "candidates" else self.queries
        return side.encode(inputs, batch_size, label)


def measure(
    model: str, keep: int, data: Path, rows: int, device: str, scratch: Path
) -> tuple[dict[str, Scores], Bridge, float]:
    """Return the scores of each pairing of models, the bridge and the seconds its fit took."""
    folder = scratch / "cut"
    puma_cli.prune(PruneSettings(model, folder, keep=keep, device=device))
    full, cut = load(model, device), load(folder, device)
    began = time.perf_counter()
    bridge = fit_bridge(full, range(keep), data, rows=rows)
    seconds = time.perf_counter() - began
    write_bridge(bridge, folder)
    whole, plain, bridged = (Remembering(m) for m in (full, cut, load(folder, device)))
    of, no = f"{keep} of {full.depth} layers", "untrained cut"
    pairings: dict[str, Encoder] = {
        f"{no}, {of}": Sides(plain, plain),
        f"bridged cut, {of}": Sides(bridged, bridged),
        f"{no}'s queries, full model's candidates": Sides(plain, whole),
        "bridged cut's queries, full model's candidates": Sides(bridged, whole),
        f"full model, {full.depth} layers": Sides(whole, whole),
    }
    opened = MbeirFolder(data)
    scores = {name: evaluate_embedder(pair, opened) for name, pair in pairings.items()}
    return scores, bridge, seconds


def fragment(
    scores: dict[str, Scores], bridge: Bridge, seconds: float, arguments: Sequence[str]
) -> str:
    """Return the results as a piece of markdown."""
    tasks = [row.task for row in next(iter(scores.values())).rows]
    full = list(scores.values())[-1].mean(METRIC, pool="local")
    queries = sum(row.queries for row in next(iter(scores.values())).rows)
    lines = [
        f"| test {METRIC} | mean | share of the full model | {' | '.join(tasks)} |",
        f"|---|{'---:|' * (len(tasks) + 2)}",
    ]
    for name, found in scores.items():
        mean = found.mean(METRIC, pool="local")
        each = " | ".join(f"{100 * row.score(METRIC):.1f}" for row in found.rows)
        share = f"{mean / full:.0%}" if full else "-"
        lines.append(f"| {name} | {100 * mean:.1f} | {share} | {each} |")
    fit = bridge.fit
    before = "-" if fit.cosine_before is None else f"{fit.cosine_before:.3f}"
    lines += [
        "",
        f"{queries:,} queries, local pools. The bridge was fitted on {fit.rows:,} inputs of the "
        f"training split in {seconds:.0f} s; strength {fit.strength:.1e}, chosen on "
        f"{fit.held_out:,} of them, whose mean cosine to the full model's embeddings went from "
        f"{before} to {fit.cosine:.3f}.",
        "",
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, torch "
        f"{torch.__version__}. `{' '.join(['python benchmarks/prune/bridge.py', *arguments])}`",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table and write it where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="puma-mini")
    parser.add_argument("--keep", type=int, default=4)
    parser.add_argument("--data", type=Path, help="data set; made anew by default")
    parser.add_argument("--scenes", type=int, default=10_000, help="training scenes")
    parser.add_argument("--targets", type=int, default=200, help="test queries a task")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, help="write the table here too")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        data = asked.data or scratch / "scenes"
        if asked.data is None:
            puma_cli.make_scenes(
                data, train_scenes=asked.scenes, test_targets=asked.targets, val_targets=1
            )
        found = measure(asked.model, asked.keep, data, asked.rows, asked.device, scratch)
    text = fragment(*found, arguments)
    print(text)
    if asked.output is not None:
        asked.output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
