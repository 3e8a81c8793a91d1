"""Exact top-100 over vectors on disk beside faiss IndexFlatIP on the same cores.

    python benchmarks/eval/search.py FOLDER [--candidates 1000000] [--dimension 512]

Random unit vectors are written to FOLDER as fp16 shards (removed afterwards). puma's search reads
them from there; faiss has its index in memory, and only its search is timed. Each measurement is
a process of its own, the two take turns, and the best of the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

SHARD = 262_144
K = 100


def make(folder: Path, candidates: int, queries: int, dimension: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for number, start in enumerate(range(0, candidates, SHARD)):
        np.save(
            folder / f"candidates-{number:04d}.npy",
            unit(generator, min(SHARD, candidates - start), dimension),
        )
    np.save(folder / "queries.npy", unit(generator, queries, dimension))


def unit(generator: np.random.Generator, rows: int, dimension: int) -> np.ndarray:
    made = generator.standard_normal((rows, dimension), dtype=np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made.astype(np.float16)


class Anonymous:
    """Watches the process's anonymous memory, which pages of mapped files are no part of."""

    def __init__(self) -> None:
        self.peak = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopped.wait(0.02):
            self.peak = max(self.peak, anonymous())

    def stop(self) -> float:
        self._stopped.set()
        self._thread.join()
        return max(self.peak, anonymous()) / 1e9


def anonymous() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def run_puma(folder: Path, threads: int, out: Path, fp32: bool = False) -> dict[str, float]:
    import torch

    import puma_cli.evaluation.search as searching
    from puma_cli.encoding.mapped import Mapped

    if fp32:
        setattr(searching, "bf16_is_faster", lambda: False)  # noqa: B010

    torch.set_num_threads(threads)
    before = anonymous() / 1e9
    watch = Anonymous()
    started, cpu = time.perf_counter(), time.process_time()
    queries = Mapped([folder / "queries.npy"])
    candidates = Mapped(sorted(folder.glob("candidates-*.npy")))
    _, places = searching.search(queries, candidates, K)
    seconds, used = time.perf_counter() - started, time.process_time() - cpu
    memory = watch.stop()
    np.save(out, places.numpy())
    return {"seconds": seconds, "cpu": used, "anonymous": memory, "before": before}


def run_faiss(folder: Path, threads: int, out: Path) -> dict[str, float]:
    import faiss

    faiss.omp_set_num_threads(threads)
    queries = np.load(folder / "queries.npy").astype(np.float32)
    index = faiss.IndexFlatIP(queries.shape[1])
    for path in sorted(folder.glob("candidates-*.npy")):
        index.add(np.load(path).astype(np.float32))
    started, cpu = time.perf_counter(), time.process_time()
    _, places = index.search(queries, K)
    seconds, used = time.perf_counter() - started, time.process_time() - cpu
    np.save(out, places)
    return {"seconds": seconds, "cpu": used, "anonymous": anonymous() / 1e9}


def child(kind: str, folder: Path, threads: int) -> dict[str, float]:
    command = [sys.executable, __file__, str(folder), "--run", kind, "--threads", str(threads)]
    return dict(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-faiss", action="store_true")
    parser.add_argument("--run", choices=("puma", "puma-fp32", "faiss"))
    args = parser.parse_args()
    work = args.folder / "search-benchmark"
    if args.run:
        out = args.folder / f"places-{args.run}.npy"
        if args.run == "faiss":
            found = run_faiss(args.folder, args.threads, out)
        else:
            found = run_puma(args.folder, args.threads, out, args.run == "puma-fp32")
        print(json.dumps(found))
        return
    make(work, args.candidates, args.queries, args.dimension)
    try:
        kinds = ("puma",) if args.without_faiss else ("puma", "puma-fp32", "faiss")
        runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
        for _ in range(args.rounds):
            for kind in kinds:
                runs[kind].append(child(kind, work, args.threads))
                print(kind, {name: round(value, 2) for name, value in runs[kind][-1].items()})
        best = {kind: min(each["seconds"] for each in found) for kind, found in runs.items()}
        work_done = 2 * args.candidates * args.queries * args.dimension
        for kind in kinds:
            print(f"{kind}: {best[kind]:.2f} s, {work_done / best[kind] / 1e9:.0f} GFLOP/s")
        if not args.without_faiss:
            mine, theirs = (np.load(work / f"places-{kind}.npy") for kind in ("puma", "faiss"))
            assert (mine == np.load(work / "places-puma-fp32.npy")).all()
            sets = [
                len(set(a) & set(b)) for a, b in zip(mine.tolist(), theirs.tolist(), strict=True)
            ]
            print(f"{best['faiss'] / best['puma']:.2f} times faiss's speed")
            print(
                f"the same candidates: {sum(sets) / mine.size:.6f}, in the same order: "
                f"{(mine == theirs).mean():.6f}"
            )
    finally:
        shutil.rmtree(work)
    print("peak of this process", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "MB")


if __name__ == "__main__":
    main()
