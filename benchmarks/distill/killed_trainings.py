"""Trainings that are killed over and over end in the weights of one that nobody touched.

    python benchmarks/distill/killed_trainings.py --kills 100 --write kills.md

A tiny student is trained on one and on two processes. A training is killed (SIGKILL to one of its
processes, or SIGTERM to all, by turns; every third time while a checkpoint is being written), goes
on, and is killed again, until it comes to its end; then another one begins. At every end the
weights must be those of the training that ran through, bit by bit; after every kill the next
session must begin at the last saved step, and never more than `--save-every` steps behind.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from puma_cli.config.lora_settings import LoraSettings
from puma_cli.config.settings import PruneSettings
from puma_cli.config.training_settings import (
    BatchSettings,
    DistillSettings,
    FreshSettings,
    LossSettings,
    OptimizerSettings,
    TrainSettings,
)
from puma_cli.data.scenes.dataset import make_scenes
from puma_cli.distillation.distill import distill
from puma_cli.errors import PumaError
from puma_cli.models.fresh import build_fresh
from puma_cli.progress import Reporter
from puma_cli.pruning.prune import prune

# How long a process may take to end once another one is gone.
ENDS_WITHIN = 60.0


class Steps(Reporter):
    """Appends every step that is done to a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        with self._file.open("a") as file:
            file.write(f"{done}\n")


@dataclass
class Tally:
    """What came of the kills with one number of processes."""

    processes: int
    kills: dict[str, int] = field(default_factory=dict)
    while_writing: int = 0
    ends: int = 0
    sessions: int = 0
    steps: int = 0
    repeated: int = 0
    most_repeated: int = 0
    slowest_end: float = 0.0
    faults: list[str] = field(default_factory=list)


def main() -> None:
    """Kill trainings until there were enough kills, and print the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="in all")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--save-every", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="where to write the page")
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        settings = prepare(Path(folder), asked.steps, asked.save_every)
        chance = random.Random(asked.seed)
        tallies = [
            killed(settings, count, asked.kills // 2, chance, Path(folder)) for count in (1, 2)
        ]
    page = write_page(asked, tallies, time.monotonic() - began)
    if asked.write:
        asked.write.write_text(page, encoding="utf-8")
    print(page)
    sys.exit(any(tally.faults for tally in tallies))


def prepare(folder: Path, steps: int, save_every: int) -> DistillSettings:
    """Make a tiny model, its cut and its data; return the settings of the training."""
    make_scenes(folder / "scenes", seed=0, train_scenes=60, test_targets=4, val_targets=4)
    shape = FreshSettings(
        hidden_size=32, layers=4, heads=2, key_value_heads=1, intermediate_size=48,
        vocabulary=320, vision_size=32, vision_layers=1, vision_heads=2,
    )  # fmt: skip
    model = folder / "model"
    model.mkdir()
    build_fresh(shape, ["small red circle left of large blue square"] * 20, seed=1).save(model)
    prune(PruneSettings(str(model), folder / "cut", keep=2))
    return DistillSettings(
        student=str(folder / "cut"),
        teacher=str(model),
        data=folder / "scenes",
        output_dir=folder / "student",
        loss=LossSettings("mac", cosine=0.5, similarity=0.2, learn_temperature=True),
        lora=LoraSettings(rank=4, alpha=8, dropout=0.1),
        optimizer=OptimizerSettings(learning_rate=1e-3),
        batch=BatchSettings(size=9),
        train=TrainSettings(
            steps=steps,
            validate_every=10,
            validation_limit=2,
            save_every=save_every,
            save_minutes=None,
        ),
        device="cpu",
    )


def killed(
    settings: DistillSettings, count: int, kills: int, chance: random.Random, folder: Path
) -> Tally:
    """Kill trainings of so many processes, and tell what came of it."""
    tally = Tally(count)
    log = folder / "steps.txt"
    whole = replace(settings, output_dir=folder / f"whole-{count}")
    length = run(whole, count, log).seconds
    expected = digest(whole.output_dir)
    number = 0
    while number < kills:
        output = folder / "student"
        shutil.rmtree(output, ignore_errors=True)
        log.write_text("")
        while not (output / "config.json").exists():
            resume = (output / "training" / "settings.json").exists()
            saved, before = saved_step(output), len(executed(log))
            again = replace(settings, output_dir=output, resume=resume)
            kill = None
            if number < kills:
                hard = number % 2 == 0
                writing = number % 3 == 0
                kill = Kill(hard, writing, chance.uniform(0.3, length), chance.randrange(count))
            ended = run(again, count, log, kill)
            tally.sessions += 1
            done = executed(log)[before:]
            if done and done[0] != saved + 1:
                tally.faults.append(f"a session began at step {done[0]}, {saved} were saved")
            if ended.struck:
                assert kill is not None
                number += 1
                name = "SIGKILL" if kill.hard else "SIGTERM"
                tally.kills[name] = tally.kills.get(name, 0) + 1
                tally.while_writing += ended.was_writing
                tally.slowest_end = max(tally.slowest_end, ended.end_seconds)
                lost = max(0, (done[-1] if done else saved) - saved_step(output))
                if not (output / "config.json").exists():
                    tally.most_repeated = max(tally.most_repeated, lost)
                    tally.repeated += lost
                    if lost > (settings.train.save_every or 0):
                        tally.faults.append(f"{lost} steps were lost")
            elif ended.code:
                tally.faults.append(f"a session ended by itself with {ended.code}")
                break
            print(f"{count} processes, kill {number}: {done[:1]} to {done[-1:]}", flush=True)
        tally.ends += 1
        tally.steps += len(executed(log))
        if digest(output) != expected:
            tally.faults.append("a training ended in other weights")
    return tally


@dataclass(frozen=True)
class Kill:
    """One kill: how, when, and of which process.

    Args:
        hard: SIGKILL to one, instead of SIGTERM to all.
        writing: wait, besides, until a checkpoint is being written.
        after: seconds.
        place: the process.
    """

    hard: bool
    writing: bool
    after: float
    place: int


@dataclass(frozen=True)
class Ended:
    """How a session ended."""

    code: int
    seconds: float
    struck: bool = False
    was_writing: bool = False
    end_seconds: float = 0.0


def run(settings: DistillSettings, count: int, log: Path, kill: Kill | None = None) -> Ended:
    """Train in so many processes until they end by themselves or by the kill."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.monotonic()
    # Forked from here, they need not import everything anew.
    left = {fork(settings, place, count, port, log): place for place in range(count)}
    processes = list(left)
    struck_at, writing, code = None, False, 0
    while left:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            left.pop(pid, None)
            code = code or os.waitstatus_to_exitcode(status)
            continue
        now = time.monotonic()
        if kill is not None and struck_at is None and now - began >= kill.after:
            writing = is_writing(settings.output_dir)
            if writing or not kill.writing:
                struck_at = now
                for pid in [processes[kill.place]] if kill.hard else list(left):
                    os.kill(pid, signal.SIGKILL if kill.hard else signal.SIGTERM)
        if struck_at is not None and now - struck_at > ENDS_WITHIN:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.0005)
    now = time.monotonic()
    if struck_at is None:
        return Ended(code, now - began)
    return Ended(code, now - began, True, writing, now - struck_at)


def fork(settings: DistillSettings, place: int, count: int, port: int, log: Path) -> int:
    """Start one process of a session; return its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        errors = os.open(os.devnull, os.O_WRONLY)
        os.dup2(errors, 2)
        if count > 1:
            os.environ |= {
                "RANK": str(place),
                "LOCAL_RANK": str(place),
                "WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
        distill(settings, Steps(log))
        code = 0
    except PumaError as error:
        code = error.exit_code
    finally:
        os._exit(code)


def is_writing(output: Path) -> bool:
    """Tell whether a checkpoint is being written just now."""
    return any((output / "training").glob(".*.partial"))


def saved_step(output: Path) -> int:
    """Return the step of the last saved state, or 0."""
    found = sorted((output / "training").glob("state-*"))
    return int(found[-1].name.partition("-")[2]) if found else 0


def executed(log: Path) -> list[int]:
    """Return the steps that were done, in their order."""
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def digest(output: Path) -> str:
    """Return a hash of the best and the last weights."""
    files = [output / "model.safetensors", output / "last" / "model.safetensors"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def write_page(asked: argparse.Namespace, tallies: Sequence[Tally], seconds: float) -> str:
    """Return the page."""
    lines = [
        "# Trainings that are killed",
        "",
        f"Command: `python benchmarks/distill/killed_trainings.py --kills {asked.kills} "
        f"--steps {asked.steps} --save-every {asked.save_every} --seed {asked.seed}`, "
        f"{seconds / 60:.0f} minutes. "
        f"Machine: {platform.machine()}, no GPU, torch {torch.__version__.partition('+')[0]}.",
        "",
        f"A tiny student, {asked.steps} steps, a state every {asked.save_every}, a validation "
        "every 10; adapters with dropout, a learned temperature.",
        "",
        "| | " + " | ".join(f"{tally.processes} process(es)" for tally in tallies) + " |",
        "|---|" + "---|" * len(tallies),
    ]
    rows: dict[str, Sequence[object]] = {
        "kills by SIGKILL": [tally.kills.get("SIGKILL", 0) for tally in tallies],
        "kills by SIGTERM": [tally.kills.get("SIGTERM", 0) for tally in tallies],
        "of them while a checkpoint was being written": [t.while_writing for t in tallies],
        "trainings that came to their end": [tally.ends for tally in tallies],
        "sessions": [tally.sessions for tally in tallies],
        "steps done in all": [tally.steps for tally in tallies],
        "of them repeated": [tally.repeated for tally in tallies],
        "most steps repeated after one kill": [tally.most_repeated for tally in tallies],
        "slowest end after a kill, s": [f"{tally.slowest_end:.1f}" for tally in tallies],
        "ends in other weights, and other faults": [len(tally.faults) for tally in tallies],
    }
    lines += [f"| {name} | " + " | ".join(map(str, row)) + " |" for name, row in rows.items()]
    lines += [f"- {fault}" for tally in tallies for fault in tally.faults]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
