"""`puma prune` beside a raw copy of the same bytes, mergekit and transformers, in turn.

    python benchmarks/prune/speed.py --work-dir runs/prune-speed \\
        --mergekit runs/mergekit --write speed.md

Makes the checkpoints, runs each way in each round (whole processes, beginning with another way
each time), compares what they wrote tensor by tensor, and prints medians. The checkpoints are read
into the cache before. `README.md` beside this file says how to make mergekit's environment.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from measured import (
    HERE,
    PUMA,
    Way,
    alternate,
    machine,
    make_stand_in,
    publish,
    tensor_bytes,
    versions,
    warm,
)
from stand_in_files import digests

KEEP = 12
SLICE = "slice_with_transformers.py"
RAW = "raw copy of the same bytes"
PYTHON = "bare interpreter"
LIMIT = 1.3  # times the raw copy and the interpreter
LINK_LIMIT = 1.0  # seconds
PEER_LIMIT = 5.0  # times faster
MEMORY_LIMIT = 250e6  # bytes


def main() -> int:
    """Run everything; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", type=Path, required=True, help="on the disk to measure")
    parser.add_argument("--mergekit", type=Path, help="a virtual environment that holds mergekit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="tiny checkpoints, to try the script")
    parser.add_argument("--write", type=Path, help="where to write the table")
    asked = parser.parse_args()
    asked.work_dir.mkdir(parents=True, exist_ok=True)
    name = "llama-tiny" if asked.tiny else "llama-2.7gb"
    model = make_stand_in(name, asked.work_dir)
    aligned = make_stand_in(f"{name}-aligned", asked.work_dir)
    ranges = asked.work_dir / "ranges.json"
    raw = [sys.executable, str(HERE / "raw_copy.py")]
    subprocess.run([*raw, "plan", str(model), str(KEEP), str(ranges)], check=True)
    ways = [
        Way(PYTHON, [sys.executable, "-c", "pass"], "starts and ends"),
        Way(RAW, [*raw, "copy", str(ranges), "{out}"], "4 threads, fsync; start not counted"),
        _puma("puma prune", model, "fsync, checks, provenance and card included"),
        _puma("puma prune --link", model, "one of two files is whole", "--link"),
        _puma("puma prune --link, whole shards", aligned, "every file whole or gone", "--link"),
        Way(
            "load, slice, save with transformers",
            [sys.executable, str(HERE / SLICE), str(model), str(KEEP), "{out}"],
            "no fsync",
            model,
        ),
        *_mergekit(asked.mergekit, model, asked.work_dir),
    ]
    for folder in (model, aligned):
        warm(folder)
    _compare_outputs(ways, asked.work_dir / "out")
    alternate(ways, asked.rounds, asked.work_dir / "out", frozenset({RAW}))
    lines, missed = _fragment(ways, model, asked)
    publish(lines, asked.write)
    return missed


def _puma(name: str, model: Path, note: str, *options: str) -> Way:
    command = [str(PUMA), "prune", str(model), "--keep", str(KEEP), "--lm-head", "keep"]
    command += ["--verify", "none", "--quiet", *options, "--output-dir", "{out}"]
    return Way(name, command, note, model)


def _mergekit(environment: Path | None, model: Path, folder: Path) -> list[Way]:
    if environment is None:
        return []
    recipe = folder / "mergekit.json"
    source = {"model": str(model), "layer_range": [0, KEEP]}
    content = {"merge_method": "passthrough", "dtype": "bfloat16"}
    # JSON is YAML too.
    recipe.write_text(json.dumps({**content, "slices": [{"sources": [source]}]}))
    start = [str(environment / "bin" / "mergekit-yaml"), str(recipe), "{out}"]
    start += ["--no-copy-tokenizer", "--quiet"]
    small = ["--out-shard-size", "1B"]
    return [
        Way("mergekit, as it comes", start, "no fsync", model),
        Way("mergekit, files of 1 B parameters", [*start, *small], "no fsync", model),
        Way(
            "mergekit, the same, asynchronous",
            [*start, *small, "--async-write", "--write-threads", "4"],
            "no fsync",
            model,
        ),
    ]


def _compare_outputs(ways: Sequence[Way], out: Path) -> None:
    """Run each way once, untimed; what does not write the parent's tensors is left out, and said.

    Raises:
        SystemExit: that is puma.
    """
    wanted: set[str] = set()
    for way in ways:
        if way.model is None:
            continue
        way.run(out)
        way.seconds.clear()
        way.durable.clear()
        way.memory.clear()
        if not way.failure:
            parents, found = digests(way.model), digests(out)
            wanted = wanted or set(found)  # puma's, the first
            expected = {name: parents.get(name) for name in wanted}
            wrong = {name for name in wanted | set(found) if found.get(name) != expected.get(name)}
            way.failure = f"{len(wrong)} tensors are not the parent's" if wrong else ""
        if way.failure and "puma" in way.name:
            raise SystemExit(f"{way.name}: {way.failure}")
    shutil.rmtree(out, ignore_errors=True)


def _fragment(ways: Sequence[Way], model: Path, asked: argparse.Namespace) -> tuple[list[str], int]:
    by_name = {way.name: way for way in ways}
    puma = by_name["puma prune"]
    baseline = by_name[RAW].median + by_name[PYTHON].median
    copied = sum(piece[4] for piece in json.loads((asked.work_dir / "ranges.json").read_text()))
    own = versions(Path(sys.executable), "puma-cli", "transformers", "torch", "safetensors")
    theirs = {}
    if asked.mergekit:
        names = ("mergekit", "transformers", "torch", "safetensors", "pydantic", "click")
        theirs = versions(asked.mergekit / "bin" / "python", *names)
    lines = [
        f"A Llama of 24 layers in bfloat16, {tensor_bytes(model) / 1e9:.2f} GB in 3 files, cut to "
        f"{KEEP} layers with its LM head, {copied / 1e9:.2f} GB. Warm cache; medians of "
        f"{asked.rounds} rounds, in which the ways took turns; whole processes.",
        "",
        f"Command: `python benchmarks/prune/speed.py --rounds {asked.rounds}"
        f"{' --tiny' if asked.tiny else ''}`. Machine: {machine(asked.work_dir)}, "
        f"load at the end {os.getloadavg()[0]:.1f}.",
        f"puma's environment: {_said(own)}." + (f" mergekit's: {_said(theirs)}." if theirs else ""),
        "",
        "| way | seconds, median (lowest to highest) | puma is faster by "
        "| seconds until on the disk | puma is faster by | peak memory | |",
        "|---|---|---|---|---|---|---|",
    ]
    for way in ways:
        if way.failure:
            lines.append(f"| {way.name} | failed | | | | | {_cell(way.failure)} |")
            continue
        times = f"{way.median:.2f} ({min(way.seconds):.2f} to {max(way.seconds):.2f})"
        factor = f"{way.median / puma.median:.1f}"
        flushed = statistics.median(way.durable)
        lasting = f"{flushed:.2f} | {flushed / statistics.median(puma.durable):.1f}"
        peak = f"{max(way.memory) / 1e6:.0f} MB"
        lines.append(f"| {way.name} | {times} | {factor} | {lasting} | {peak} | {way.note} |")
    peers = [way for way in ways if way.note == "no fsync" and not way.failure]
    claims = [
        (
            f"puma prune takes {puma.median / baseline:.2f} times the raw copy and the start of "
            f"the interpreter ({baseline:.2f} s); at most {LIMIT}",
            puma.median <= LIMIT * baseline,
        ),
        (
            f"its peak memory is {max(puma.memory) / 1e6:.0f} MB; at most {MEMORY_LIMIT / 1e6:.0f}",
            max(puma.memory) <= MEMORY_LIMIT,
        ),
        (
            "with whole shards linked it takes "
            f"{by_name['puma prune --link, whole shards'].median:.2f} s; under {LINK_LIMIT:g}",
            by_name["puma prune --link, whole shards"].median < LINK_LIMIT,
        ),
        *(
            (
                f"{way.name} takes {way.median / puma.median:.1f} times as long; "
                f"at least {PEER_LIMIT:g}",
                way.median >= PEER_LIMIT * puma.median,
            )
            for way in peers
        ),
    ]
    lines += ["", *(f"- {'yes' if held else 'NO'}: {text}." for text, held in claims)]
    return lines, int(not all(held for _, held in claims))


def _said(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    sys.exit(main())
