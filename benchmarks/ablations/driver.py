"""Doing runs: what is finished is skipped, what was stopped goes on."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ablations.cost import Rates, seconds_of
from ablations.grid import OWN, PUMA, SENTENCE_TRANSFORMERS, Question, Run
from ablations.peer import train_peer
from ablations.processes import CommandFailedError, locked, run_puma, shown
from ablations.records import append, commit, hits_of, machine, read_lines, read_results
from ablations.workplace import OutOfTimeError, Workplace
from puma_cli.checkpoint.fingerprint import identify
from puma_cli.checkpoint.layout import LAYOUT
from puma_cli.checkpoint.provenance import read_provenance
from puma_cli.checkpoint.source import resolve
from puma_cli.config.training_settings import NO_TEACHER
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.evaluation.results import LOCAL, TaskScores
from puma_cli.evaluation.score_folder import read_scores
from puma_cli.models.devices import choose_device, name_device
from puma_cli.profiling.profile import LayerProfile

VAL, TEST = "val", "test"
# Minutes that scoring takes after a training; less than this and none is begun.
_RESERVE = 2.0


@dataclass(frozen=True)
class Done:
    """What a session came to.

    Args:
        finished: runs that have got their line.
        left: runs that have none yet.
        failed: what went wrong, by run.
    """

    finished: int
    left: int
    failed: Mapping[str, str]


def wanted(questions: Iterable[Question], split: str) -> list[Run]:
    """Return the distinct runs of some questions: all first seeds, then all second ones, and so on.

    Args:
        split: on `test` the chosen variants alone, and the models they were cut from.
    """
    found: dict[str, Run] = {}
    for question in questions:
        for row in question.rows:
            if split == VAL or row.name in question.test:
                for run in row.runs:
                    whole = Run(data=run.data, model=run.model, cut="whole", trainer="")
                    found.setdefault(whole.key, whole)
                    found.setdefault(run.key, run)
    runs = list(found.values())
    seeds = list(dict.fromkeys(run.seed for run in runs))
    return sorted(runs, key=lambda run: seeds.index(run.seed))


def missing(runs: Sequence[Run], results: Path, split: str) -> list[Run]:
    """Return the runs that have no line of results on a split."""
    there = read_results(results).lines
    return [run for run in runs if (run.key, split) not in there]


def perform(
    runs: Sequence[Run],
    split: str,
    place: Workplace,
    results: Path,
    say: Callable[[str], None],
    rates: Rates | None = None,
) -> Done:
    """Do the runs that have no line yet, one after another, until the time is up.

    A run that fails is noted and left out; so is one that another driver is at.

    Raises:
        KeyboardInterrupt: a signal; state is saved.
    """
    finished, failed, busy = 0, {}, 0
    todo = missing(runs, results, split)
    for number, run in enumerate(todo, start=1):
        name = f"{number}/{len(todo)} {describe(run)}"
        left = place.limit() if place.limit else None
        if left is not None and left < _RESERVE:
            say("The time is up.")
            break
        with locked(place.root / "locks" / f"run-{run.trained_key}", wait=False) as ours:
            if not ours:
                busy += 1
                say(f"{name}: another process is at it.")
                continue
            if not missing([run], results, split):
                finished += 1
                continue
            about = f", about {seconds_of(run, rates) / 60:.0f} min" if rates else ""
            say(f"{name}{about}")
            try:
                line = _one(run, split, place, results)
            except OutOfTimeError as error:
                say(f"{error.problem} {error.hint}")
                break
            except CommandFailedError as error:
                failed[describe(run)] = str(error)
                say(f"{name}: failed.\n{error}")
                continue
            finished += 1
            metrics = ", ".join(f"{m} {100 * v:.1f}" for m, v in line["scores"][LOCAL].items())
            say(f"{name}: {split} {metrics}")
    left_over = len(missing(runs, results, split))
    return Done(finished, left_over, failed)


def describe(run: Run) -> str:
    """Say in a few words which run this is."""
    parts = [run.data, run.model, run.cut]
    parts += ["bridge"] if run.bridge else []
    if run.trainer:
        parts += [f"{name}={value}" for name, value in run.settings.items()]
        parts += [f"taught by {run.teacher}"] if run.teacher != run.model else []
        parts += [run.trainer] if run.trainer != PUMA else []
        parts += [f"seed {run.seed}"]
    else:
        parts.append("as it is")
    if run.index != OWN:
        parts.append("on the model's index")
    return " ".join(parts)


def _one(run: Run, split: str, place: Workplace, results: Path) -> dict[str, Any]:
    """Make, train and score one student, and write down what came of it."""
    began = time.time()
    layers = place.layers(run)
    cut = place.cut(run, layers)
    trained = _trained(run, cut, place) if run.trainer else {"student": cut}
    student = str(trained.pop("student"))
    folder = place.root / "scores" / f"{run.key}-{split}"
    words: list[Any] = [student]
    if run.index == "teacher":
        words = ["--query-model", student, "--candidate-model", place.model(run.model)]
        # A peer's folder does not say whom it was taught by.
        words += ["--any-space"] * (run.trainer == SENTENCE_TRANSFORMERS)
    words = ["eval", *words, "--data", place.data(run.data), "--split", split]
    # Hundreds of students are scored once each; a model whose index serves many is kept.
    words += ["--no-cache"] * (run.index == OWN) + ["--device", place.device]
    if read_provenance(folder) is None:
        run_puma([*words, "--output-dir", folder], place.log)
    scores = read_scores(folder)
    modalities = {
        entry.did: entry.modality for entry in MbeirFolder(place.data(run.data)).union_pool(split)
    }
    hits = hits_of(run.key, scores, folder, modalities)
    device = choose_device(place.device)
    line: dict[str, Any] = {
        "key": run.key,
        "split": split,
        **run.as_json(),
        "layers": list(layers),
        "scores": {pool: _means(scores.means[pool]) for pool in scores.pools},
        "per_task": {row.task: row.score("hit@1") for row in scores.of_pool(LOCAL)},
        "chance": {row.task: chance(row, 5) for row in scores.of_pool(LOCAL)},
        **trained,
        "scoring_command": shown(["puma", *words]),
        "made_from": {
            "model": identify(resolve(place.model(run.model))),
            "data": identify(place.data(run.data)),
        },
        "commit": commit(),
        "machine": machine(str(device)),
        "device": name_device(device),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.time() - began, 1),
    }
    # The ranks first: a line without its ranks would be an error.
    if (run.key, split) not in {
        (each["key"], each["split"]) for each in read_lines(results / "hits.jsonl")
    }:
        append(results / "hits.jsonl", vars(hits))
    append(results / "runs.jsonl", line)
    shutil.rmtree(folder)
    return line


def chance(scores: TaskScores, k: int) -> float:
    """Return the expected hit@k of a random ranking of the task's pool."""
    missed = np.ones(len(scores.positives))
    for place in range(min(k, scores.candidates)):
        left = scores.candidates - place
        missed *= np.clip(left - scores.positives, 0, None) / left
    return float(1 - missed.mean())


def _means(found: Mapping[str, float]) -> dict[str, float]:
    return {metric: found[metric] for metric in ("hit@1", "hit@5", "mrr@10")}


def _trained(run: Run, cut: str, place: Workplace) -> dict[str, Any]:
    """Return the student's folder with what its training took, trained to its end."""
    student = place.root / "students" / run.trained_key
    note = student.with_name(f"{student.name}.json")
    if not note.is_file() or not student.is_dir():
        if run.trainer == SENTENCE_TRANSFORMERS:
            found = train_peer(run, cut, student, place)
        else:
            found = _by_puma(run, cut, student, place)
        note.write_text(json.dumps(found), encoding="utf-8")
    return {"student": student, **json.loads(note.read_text(encoding="utf-8"))}


def _by_puma(run: Run, cut: str, student: Path, place: Workplace) -> dict[str, Any]:
    memory = 0.0
    if read_provenance(student) is None or (student / LAYOUT.training).is_dir():
        words = place.training(run, cut, place.teacher_cache)
        short = place if place.limit is None else _keeping(place, place.limit)
        memory = short.distill(words, student)["memory"]
    command = ["puma", "distill", *place.training(run, cut, None), "--output-dir", student]
    done = read_provenance(student)
    assert done is not None
    stages = [*done.earlier_stages, {"results": done.results}]
    progress = [stage["results"]["progress"] for stage in stages]
    steps = sum(each["step"] for each in progress)
    seconds = sum(each["seconds"] for each in progress)
    batch = int(done.settings["batch"]["size"])
    # What is scored again is the best weights; the latest and the pictures are for people.
    for name in (LAYOUT.last, LAYOUT.tensorboard, LAYOUT.stages):
        shutil.rmtree(student / name, ignore_errors=True)
    return {
        "command": shown(command),
        "steps": steps,
        "batch": batch,
        "train_seconds": round(seconds, 1),
        "pairs_per_second": round(steps * batch / seconds, 2) if seconds else None,
        "peak_memory": int(memory) or None,
        "taught": run.teacher != NO_TEACHER,
    }


def _keeping(place: Workplace, left: Callable[[], float]) -> Workplace:
    """Return the same place with time kept back for scoring."""
    from dataclasses import replace

    return replace(place, limit=lambda: left() - _RESERVE)


def note_profile(model: str, data: str, place: Workplace, results: Path) -> dict[str, Any]:
    """Analyze a model on a data set, and write down what it says of every depth, once."""
    known = read_results(results).profiles.get((model, data))
    if known is not None:
        return known
    found = place.profile(model, data)
    line = {
        **profile_line(model, data, found),
        "commit": commit(),
        "machine": machine(str(choose_device(place.device))),
    }
    append(results / "profiles.jsonl", line)
    return line


def profile_line(model: str, data: str, found: LayerProfile) -> dict[str, Any]:
    """Return what is kept of a profile: cost and readings at every depth."""
    costs = [
        {
            "k": cost.k,
            "parameters": cost.parameters,
            "weight_bytes": cost.weight_bytes,
            "flops_query": cost.flops_query,
            "latency_ms": cost.latency_query,
            "queries_per_second": cost.queries_per_second,
            "peak_memory": cost.peak_memory,
            "measured": cost.measured,
        }
        for cost in found.costs
    ]
    return {
        "model": model,
        "data": data,
        "depth": found.depth,
        "dimension": found.dimension,
        "index_bytes": found.measured.index_bytes,
        "device": found.measured.device,
        "retention": {name: list(each.share) for name, each in found.retention.items()},
        "costs": costs,
    }
