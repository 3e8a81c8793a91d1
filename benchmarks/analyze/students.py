"""Students really trained at several depths, to hold a profile's predictions against.

    python benchmarks/analyze/students.py --teacher puma-mini --data runs/scenes \\
        --depths 2 3 4 6 8 10 --keep-last 2 4 6 --seeds 0 1 \\
        --results docs/results/analyze-students.jsonl

Every run cuts the teacher, distils the cut by one recipe and the same number of steps, and scores
the cut and the student on the split, beside the teacher. A line of JSON a run is added to the
results; what stands there already is skipped, and a training that was stopped goes on, so the
command can be stopped and typed again at any time. `--minutes` ends it in time between two runs;
`--jobs` trains several students at once, which pays on a GPU; `--dry-run` says what is left. The
teacher's profile on val, from which predictions are made, lies in `WORK-DIR/profiles`, and its
embeddings, which its students share, in `WORK-DIR/teacher`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from puma_cli import (
    AnalyzeSettings,
    DistillSettings,
    EvaluateSettings,
    PruneSettings,
    analyze,
    distill,
    evaluate,
    prune,
)
from puma_cli.checkpoint.fingerprint import identify
from puma_cli.checkpoint.layout import TRAINING
from puma_cli.checkpoint.provenance import read_provenance
from puma_cli.checkpoint.source import resolve
from puma_cli.config.layers import first_layers, keep_last_layers
from puma_cli.config.loading import load_settings
from puma_cli.evaluation.results import LOCAL, Scores
from puma_cli.evaluation.score_folder import read_scores
from puma_cli.pruning.planning.plan import depth_of


@dataclass(frozen=True)
class Run:
    """One student.

    Args:
        teacher: the teacher's name in the results.
        data: the data set's name in the results.
        layers: the decoder layers that stay, such as `0,1,2,11`.
        seed: seed of the training.
        recipe: name of its settings.
        steps: optimizer steps.
        split: what it was scored on.
        made_from: hash of the teacher, the data and the settings.
    """

    teacher: str
    data: str
    layers: str
    seed: int
    recipe: str
    steps: int
    split: str
    made_from: str

    @property
    def name(self) -> str:
        """A folder's name, another for every other run."""
        kept = self.layers.replace(",", ".")
        return f"{self.teacher}-{kept}-seed{self.seed}-{self.split}-{self.made_from}"


def main() -> None:
    """Do every run that the results lack."""
    asked = parse()
    done = {key(line) for line in read_lines(asked.results)}
    runs = [run for run in plan(asked) if key(asdict(run)) not in done]
    print(f"{len(runs)} runs are left.", flush=True)
    if asked.dry_run:
        for run in runs:
            print(run.name)
        return
    profile(asked)
    for number, line in enumerate(students(runs, asked), start=1):
        asked.results.parent.mkdir(parents=True, exist_ok=True)
        with asked.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        name = f"{line['teacher']}-{line['layers']}-seed{line['seed']}"
        print(f"{number}/{len(runs)} {name}: keeps {line['retention']:.1%}", flush=True)


def students(runs: Sequence[Run], asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Train the students, several at once if asked to; yield their lines as they are ready."""
    began, left = time.monotonic(), list(runs)

    def late(done: int) -> bool:
        spent = (time.monotonic() - began) / 60
        return bool(asked.minutes and spent * (1 + asked.jobs / done) > asked.minutes)

    if left:
        # Alone: it writes what all of them share, the teacher's embeddings and scores.
        yield train(left.pop(0), asked)
    done, running = 1, set[Future[dict[str, Any]]]()
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
        while running or left:
            while left and len(running) < asked.jobs and not late(done):
                running.add(pool.submit(train, left.pop(0), asked))
            if not running:
                print(f"Stopping after {asked.minutes:g} minutes; {len(left)} runs are left.")
                return
            ready, running = wait(running, return_when=FIRST_COMPLETED)
            for each in ready:
                done += 1
                yield each.result()


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--teacher", required=True, help="a model")
    parser.add_argument("--name", help="its name in the results; by default the folder's")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--depths", type=int, nargs="+", required=True)
    parser.add_argument("--keep-last", type=int, nargs="*", default=[], help="depths cut that way")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--steps", type=int, help="optimizer steps; by default the recipe's")
    parser.add_argument("--split", default="test")
    parser.add_argument("--device", default="auto")
    # Machines are compared, and these models are small.
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--work-dir", type=Path, default=Path("runs/students"))
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=1, help="students that train at once")
    parser.add_argument("--minutes", type=float, help="begin no run that would end later")
    parser.add_argument("--dry-run", action="store_true")
    asked = parser.parse_args()
    asked.name = asked.name or Path(asked.teacher).name
    asked.steps = asked.steps or recipe_of(asked).train.steps
    return asked


def recipe_of(asked: argparse.Namespace) -> DistillSettings:
    """Return the recipe's settings, whatever the student."""
    return load_settings(
        DistillSettings,
        config=asked.recipe,
        flags={"student": "", "data": asked.data, "output_dir": asked.work_dir},
    )


def profile(asked: argparse.Namespace) -> None:
    """Analyze the teacher, unless that is done."""
    folder = asked.work_dir / "profiles" / asked.name
    if read_provenance(folder) is None:
        analyze(
            AnalyzeSettings(
                asked.teacher, asked.data, folder, device=asked.device, dtype=asked.dtype
            )
        )


def plan(asked: argparse.Namespace) -> Iterator[Run]:
    """Yield the runs: all depths with the first seed, then with the next."""
    depth, made_from = depth_of(resolve(asked.teacher)), origin(asked)
    cuts = [first_layers(k, depth) for k in asked.depths]
    cuts += [keep_last_layers(k, depth) for k in asked.keep_last]
    for seed in asked.seeds:
        for cut in cuts:
            layers = ",".join(map(str, cut))
            yield Run(
                asked.name,
                asked.data.name,
                layers,
                seed,
                asked.recipe,
                asked.steps,
                asked.split,
                made_from,
            )


def origin(asked: argparse.Namespace) -> str:
    """Return a short hash of everything that all students of a call have in common."""
    settings = recipe_of(asked)
    parts = [
        identify(resolve(asked.teacher)),
        identify(asked.data),
        asked.steps,
        *(asdict(part) for part in (settings.loss, settings.lora, settings.optimizer)),
        *(asdict(part) for part in (settings.batch, settings.train)),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


def train(run: Run, asked: argparse.Namespace) -> dict[str, Any]:
    """Cut, distil and score one student; return its line of results."""
    root = asked.work_dir / run.name
    cut, student = root / "cut", root / "student"
    if read_provenance(cut) is None:
        prune(PruneSettings(asked.teacher, cut, layers=run.layers))
    settings = load_settings(
        DistillSettings,
        config=run.recipe,
        overrides=[
            f"train.steps={run.steps}",
            "train.cache_teacher=true",
            f"train.cache_dir={asked.work_dir / 'teacher'}",
        ],
        flags={
            "student": str(cut),
            "teacher": asked.teacher,
            "data": asked.data,
            "output_dir": student,
            "device": asked.device,
            "dtype": asked.dtype,
            "seed": run.seed,
        },
    )
    running = (student / TRAINING).is_dir()
    if running or read_provenance(student) is None:
        distill(replace(settings, resume=running))
    history = read_provenance(student)
    assert history is not None
    teacher = score(
        asked.teacher, asked.work_dir / f"{run.teacher}-{run.split}-{run.made_from}", asked
    )
    untrained = score(str(cut), root / "scores-cut", asked)
    trained = score(str(student), root / "scores-student", asked)
    line = {
        **asdict(run),
        "k": len(run.layers.split(",")),
        "depth": depth_of(resolve(asked.teacher)),
        "teacher_fingerprint": identify(resolve(asked.teacher)),
        "scores": {
            name: {metric: found.mean(metric, pool=LOCAL) for metric in ("hit@1", "hit@5")}
            for name, found in (("teacher", teacher), ("cut", untrained), ("student", trained))
        },
        "retention": trained.mean("hit@1", pool=LOCAL) / teacher.mean("hit@1", pool=LOCAL),
        "per_task": {row.task: float(row.values("hit@1").mean()) for row in trained.of_pool(LOCAL)},
        "standard_error": standard_error(trained, teacher),
        "train_seconds": history.results["progress"]["seconds"],
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, "
        f"{'CUDA' if torch.cuda.is_available() else 'no GPU'}",
        "commit": commit(),
    }
    for folder in (cut, student):
        # Scores are what is needed; twelve students of a large teacher are not.
        shutil.rmtree(folder)
    return line


def score(model: str, folder: Path, asked: argparse.Namespace) -> Scores:
    """Return a model's scores, from the folder where they are there already."""
    if read_provenance(folder) is None:
        evaluate(
            EvaluateSettings(
                model=model,
                data=asked.data,
                output_dir=folder,
                split=asked.split,
                pools=(LOCAL,),
                device=asked.device,
                dtype=asked.dtype,
            )
        )
    return read_scores(folder)


def standard_error(student: Scores, teacher: Scores) -> float:
    """Return the standard error over queries of the retention, the two paired (delta method)."""
    below = {row.task: row.values("hit@1") for row in teacher.of_pool(LOCAL)}
    above = {row.task: row.values("hit@1") for row in student.of_pool(LOCAL)}
    full = float(np.mean([values.mean() for values in below.values()]))
    share = float(np.mean([values.mean() for values in above.values()])) / full
    parts = [np.var(above[task] - share * below[task], ddof=1) / len(below[task]) for task in below]
    return float(np.sqrt(np.sum(parts)) / len(parts) / full)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the results so far."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def key(line: dict[str, Any]) -> Sequence[object]:
    """Return what tells one run from another."""
    return tuple(line[name] for name in Run.__dataclass_fields__)


def commit() -> str:
    """Return the commit of the code, or nothing outside a clone."""
    if shutil.which("git") is None:
        return ""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


if __name__ == "__main__":
    main()
