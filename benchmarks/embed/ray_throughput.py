"""Ray on two workers of one core each beside one process with two threads, after start-up.

    python benchmarks/embed/ray_throughput.py --write docs/results/scale.md

Both embed the same texts and pictures by the same model, in alternating rounds, the workers with
their models open. Start-up is what happens before the first shard of a run is there: its time, and
the inputs of the shards that ended it, do not count. Run it on a quiet machine of two cores. The
goal: .85 of the throughput of one process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

GOAL = 0.85
WORDS = ("small", "large", "red", "blue", "circle", "square", "left", "above", "of", "a", "river")
PAGE = """# Beyond one machine

Command: `{command}`. {machine}. {when}.

{inputs:,} inputs, half of them pictures, in shards of {shard_rows}; {rounds} rounds, one process
with two threads and Ray with two workers of one core each in turn. A rate is that from the first
shard to the last: starting processes and opening models is told apart.

| | inputs a second, median | lowest to highest | before the first shard |
|---|---|---|---|
{rows}

Ray reaches {ratio:.2f} of one process (median of the rounds; {low:.2f} to {high:.2f}); the goal was
{goal:.2f}: {verdict}. The largest difference of a component between the two indexes is
{difference:.1e}.

## Workers killed in the middle

| kills | shards | rows lost | rows twice | largest difference of a component |
|---|---|---|---|---|
| {kills.kills} | {kills.shards} | {kills.lost} | {kills.doubled} | {kills.difference:.1e} |

A worker is ended by SIGKILL at a random moment, again and again, and Ray starts another one; the
index is compared with that of one process. `tests/embedding/test_ray.py` does the same on a
cluster of a head and two workers.

What one billion items take is computed in [the plan](../scale.md).
"""


@dataclass(frozen=True)
class Round:
    """One run: inputs a second after the first shard, and seconds before it."""

    engine: str
    rate: float
    startup: float


@dataclass(frozen=True)
class Killed:
    """A run whose workers were killed, beside one that was left alone."""

    kills: int
    shards: int
    lost: int
    doubled: int
    difference: float


def main() -> None:
    """Run all rounds, print each, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="puma-mini")
    parser.add_argument("--inputs", type=int, default=8_192)
    parser.add_argument("--shard-rows", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path, metavar="FILE.md")
    asked = parser.parse_args()
    found: list[Round] = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        table = make_inputs(place, asked.inputs)
        for _ in range(asked.rounds):
            for engine in ("local", "ray"):
                found.append(measure(asked, table, place / engine, engine))
                print(json.dumps(asdict(found[-1])), flush=True)
        difference = largest_difference(place / "local", place / "ray")
        kills = kill_workers(asked, table, place)
        print(json.dumps(asdict(kills)), flush=True)
    local, ray = ([r for r in found if r.engine == e] for e in ("local", "ray"))
    ratios = [b.rate / a.rate for a, b in zip(local, ray, strict=True)]
    ratio = statistics.median(ratios)
    verdict = "reached" if ratio >= GOAL else "missed"
    print(f"{ratio:.3f} of one process, goal {GOAL}: {verdict}; vectors differ by {difference:.1e}")
    if asked.json:
        content = {
            "rounds": [asdict(r) for r in found],
            "ratio": ratio,
            "difference": difference,
            "kills": asdict(kills),
        }
        asked.json.write_text(json.dumps(content, indent=2))
    if asked.write:
        rows = [row("One process, two threads", local), row("Ray, two workers", ray)]
        page = PAGE.format(
            command=f"python benchmarks/embed/ray_throughput.py --inputs {asked.inputs} "
            f"--shard-rows {asked.shard_rows} --rounds {asked.rounds} --kills {asked.kills}",
            machine=f"{platform.machine()}, {os.cpu_count()} CPU cores, "
            f"Python {platform.python_version()}, {asked.model}",
            when=time.strftime("%Y-%m-%d"),
            inputs=asked.inputs,
            shard_rows=asked.shard_rows,
            rounds=asked.rounds,
            rows="\n".join(rows),
            ratio=ratio,
            low=min(ratios),
            high=max(ratios),
            goal=GOAL,
            verdict=verdict,
            difference=difference,
            kills=kills,
        )
        asked.write.write_text(page, encoding="utf-8")


def make_inputs(place: Path, count: int) -> Path:
    """Write a table of texts and pictures; return its path."""
    draws = random.Random(0)
    (place / "pictures").mkdir()
    table = place / "inputs.jsonl"
    with table.open("w", encoding="utf-8") as file:
        for number in range(count):
            row: dict[str, object] = {"id": str(number)}
            row["text"] = " ".join(draws.choices(WORDS, k=draws.randint(4, 24)))
            if number % 2:
                picture = Image.new("RGB", (112, 112), "white")
                box = [draws.randint(0, 40), draws.randint(0, 40), 100, 100]
                ImageDraw.Draw(picture).ellipse(box, fill=draws.choice(("red", "blue", "green")))
                row["image"] = f"pictures/{number}.png"
                picture.save(place / str(row["image"]))
            file.write(json.dumps(row) + "\n")
    return table


def measure(asked: argparse.Namespace, table: Path, index: Path, engine: str) -> Round:
    """Make the index anew by one engine, in a process of its own, and time its shards."""
    begun = time.time()
    if start(asked, table, index, engine).wait():
        raise SystemExit(f"{engine} failed")
    # When each shard was there, as its record's file says.
    ends = sorted(path.stat().st_mtime for path in (index / "shards").glob("[0-9]*.json"))
    # The first shard of each worker is start-up.
    warm = 2 if engine == "ray" else 1
    first = ends[warm - 1]
    rows = (len(ends) - warm) * asked.shard_rows
    return Round(engine, rows / (ends[-1] - first), first - begun)


def start(
    asked: argparse.Namespace, table: Path, index: Path, engine: str
) -> subprocess.Popen[bytes]:
    """Start making an index anew."""
    own = ["--engine", "local"]
    threads = "2"
    if engine == "ray":
        own = ["--engine", "ray", "--ray-address", "local"]
        own += ["--workers", "2", "--cpus-per-worker", "1"]
        threads = "1"
    words = ["embed", asked.model, str(table), "--output-dir", str(index), "--overwrite"]
    words += ["--shard-rows", str(asked.shard_rows), "--device", "cpu", "--quiet", *own]
    environment = os.environ | {"OMP_NUM_THREADS": threads, "RAY_USAGE_STATS_ENABLED": "0"}
    return subprocess.Popen(
        [sys.executable, "-m", "puma_cli", *words], env=environment, stdout=subprocess.DEVNULL
    )


def kill_workers(asked: argparse.Namespace, table: Path, place: Path) -> Killed:
    """Make the index by Ray while its workers are killed, and compare it with the local one."""
    import psutil

    draws, kills, index = random.Random(0), 0, place / "killed"
    run = start(asked, table, index, "ray")
    shards = place / "local" / "shards"
    total, done = len(list(shards.glob("[0-9]*.json"))), 0
    while run.poll() is None:
        time.sleep(0.05)
        before, done = done, len(list((index / "shards").glob("[0-9]*.json")))
        # Spread over the run: each time that so many shards more are there, at once or soon after.
        due = kills < asked.kills and done >= (kills + 1) * total / (asked.kills + 1)
        if not due or done == before:
            continue
        time.sleep(draws.uniform(0, 0.2))
        children = psutil.Process(run.pid).children(recursive=True)
        workers = [child for child in children if is_worker(child)]
        if workers:
            draws.choice(workers).kill()
            kills += 1
    if run.returncode:
        raise SystemExit("ray failed")
    ours, theirs = ids_of(index), ids_of(place / "local")
    return Killed(
        kills,
        total,
        lost=sum((theirs - ours).values()),
        doubled=sum((ours - theirs).values()),
        difference=largest_difference(place / "local", index),
    )


def is_worker(process: Any) -> bool:
    """Tell whether a process is one of Ray's that hold a model."""
    import psutil

    try:
        return "ShardWorker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def ids_of(folder: Path) -> Counter[str]:
    """Return how often each id is in an index."""
    from puma_cli.searching.index import FileIndex, open_index

    index = open_index(folder)
    assert isinstance(index, FileIndex)
    return Counter(index.vectors.row(n).id for n in range(len(index)))


def largest_difference(left: Path, right: Path) -> float:
    """Return how far the vectors of two indexes are apart at most."""
    from puma_cli.searching.index import FileIndex, open_index

    first, second = open_index(left), open_index(right)
    assert isinstance(first, FileIndex) and isinstance(second, FileIndex)
    assert len(first) == len(second)
    count = len(first)
    return float((first.vectors.rows(0, count) - second.vectors.rows(0, count)).abs().max())


def row(name: str, rounds: Sequence[Round]) -> str:
    """Return a row of the page's table."""
    rates = [r.rate for r in rounds]
    startup = statistics.median(r.startup for r in rounds)
    spread = f"{min(rates):,.1f} to {max(rates):,.1f}"
    return f"| {name} | {statistics.median(rates):,.1f} | {spread} | {startup:.1f} s |"


if __name__ == "__main__":
    main()
