"""Ablations: what is planned, doing it, and the tables of what came out.

    python benchmarks/ablations plan                      what is left, and how long it takes
    python benchmarks/ablations measure --only a          the same by a few steps on this machine
    python benchmarks/ablations run --only a --limit-hours 2
    python benchmarks/ablations run --only a --split test the chosen settings, once, on test
    python benchmarks/ablations predict --profiles DIR    what analyses said of trained students
    python benchmarks/ablations tables                    every table and figure, from the results
    python benchmarks/ablations tables --check            fail if one would change

Stop `run` at any time, and type it again to go on: what has a line in the results is skipped, and a
training goes on from its saved state. Start it in a second terminal to use another core: no two do
the same run.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablations.cost import rates_of, table
from ablations.grid import QUESTIONS, SETUP, Question, Setup, read_questions, read_setup
from ablations.records import RESULTS, read_results
from puma_cli.config.suggestion import did_you_mean
from puma_cli.errors import ConfigError, PumaError
from puma_cli.report.numbers import duration

_WORK = Path("runs/ablations")


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    asked = _parse(words)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        setup = read_setup(asked.setup)
        questions = read_questions(setup, asked.questions)
        code: int = asked.do(asked, setup, _chosen(questions, asked.only))
    except PumaError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Stopped; type the same command again to go on.", file=sys.stderr)
        return 130
    return code


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ablations", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=Path, default=QUESTIONS, help="folder of *.yaml")
    parser.add_argument("--setup", type=Path, default=SETUP, help="data sets and models")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, do: Any, text: str) -> argparse.ArgumentParser:
        each = commands.add_parser(name, help=text, description=text)
        each.set_defaults(do=do)
        each.add_argument("--only", nargs="+", metavar="QUESTION", default=[], help="such as a b")
        each.add_argument("--results", type=Path, default=RESULTS, help="folder of results")
        each.add_argument("--work-dir", type=Path, default=_WORK, help="folder for all else")
        return each

    for name, do, text in (
        ("plan", _plan, "Say what is left to do, and how long it will take."),
        ("run", _run, "Do the runs that have no line of results yet."),
    ):
        each = command(name, do, text)
        each.add_argument("--data", nargs="+", default=[], help="only these data sets")
        each.add_argument("--split", choices=("val", "test"), default="val")
        each.add_argument("--runs", action="store_true", help="name every run that is left")
        if name == "run":
            each.add_argument("--device", default="auto")
            each.add_argument(
                "--together",
                action="store_true",
                help="train in this process: no memory is measured, seconds of loading are saved",
            )
            each.add_argument("--limit-hours", type=float, help="stop then, with state saved")
    each = command("measure", _measure, "Take a few steps of each kind of run, for plans.")
    each.add_argument("--data", nargs="+", default=[])
    each.add_argument("--device", default="auto")
    each = command("predict", _predict, "Keep what profiles say of the students of question e.")
    each.add_argument("--profiles", type=Path, required=True, help="a folder of profiles")
    each = command("tables", _tables, "Write every table and figure from the results.")
    each.add_argument(
        "--check", action="store_true", help="write nothing; fail if one would change"
    )
    return parser.parse_args(words)


def _chosen(questions: dict[str, Question], names: Sequence[str]) -> list[Question]:
    for name in names:
        if name not in questions:
            raise ConfigError(
                f"There is no question {name!r}.",
                hint=did_you_mean(name, questions) or f"There are: {', '.join(questions)}.",
            )
    return [each for name, each in questions.items() if not names or name in names]


def _on_data(questions: Sequence[Question], names: Sequence[str], setup: Setup) -> list[Question]:
    from dataclasses import replace

    for name in names:
        if name not in setup.data:
            raise ConfigError(
                f"There is no data set {name!r}.",
                hint=did_you_mean(name, setup.data) or f"There are: {', '.join(setup.data)}.",
            )
    if not names:
        return list(questions)
    return [
        replace(each, rows=tuple(row for row in each.rows if row.data in names))
        for each in questions
    ]


def _plan(asked: argparse.Namespace, setup: Setup, questions: list[Question]) -> int:
    from ablations.driver import describe, missing, wanted

    questions = _on_data(questions, asked.data, setup)
    known = read_results(asked.results).lines
    rates = rates_of(known.values(), asked.work_dir / "measured.jsonl")
    done = {key for key, split in known if split == asked.split}
    if asked.split == "test":
        todo = missing(wanted(questions, "test"), asked.results, "test")
        print(f"{len(todo)} runs are to be scored on test.")
        if asked.runs:
            print("\n".join(f"  {describe(run)}" for run in todo))
        return 0
    entries, total = table(questions, done, rates)
    print(f"{'question':9} {'data':12} {'runs':>5} {'left':>5}  {'time':>10}")
    for each in entries:
        guess = "" if each["measured"] or not each["left"] else "  not measured yet"
        took = duration(each["seconds"]) if each["left"] else "–"
        print(
            f"{each['question']:9} {each['data']:12} {each['runs']:5} {each['left']:5}  "
            f"{took:>10}{guess}"
        )
    print(f"In all {duration(total)}, one run after another; runs that two share count once.")
    for name in sorted({run.model for q in questions for row in q.rows for run in row.runs}):
        if setup.models[name].start:
            print(f"Besides: the model {name} is trained first, unless it is there.")
    if asked.runs:
        for run in missing(wanted(questions, "val"), asked.results, "val"):
            print(f"  {run.key} {describe(run)}")
    return 0


def _run(asked: argparse.Namespace, setup: Setup, questions: list[Question]) -> int:
    from ablations.driver import describe, missing, note_profile, perform, wanted
    from ablations.workplace import OutOfTimeError, Workplace, limited

    if asked.limit_hours is not None and asked.limit_hours <= 0:
        raise ConfigError(
            f"--limit-hours {asked.limit_hours:g} leaves no time.", hint="Give more than 0."
        )
    questions = _on_data(questions, asked.data, setup)
    place = Workplace(asked.work_dir.resolve(), setup, asked.device, apart=not asked.together)
    if asked.limit_hours is not None:
        place = limited(place, 60 * asked.limit_hours)
    known = read_results(asked.results).lines
    rates = rates_of(known.values(), asked.work_dir / "measured.jsonl")
    runs = wanted(questions, asked.split)
    todo = missing(runs, asked.results, asked.split)
    print(f"{len(todo)} of {len(runs)} runs are left on {asked.split}.", flush=True)
    if asked.runs:
        print("\n".join(f"  {describe(run)}" for run in todo), flush=True)
    done = perform(
        runs, asked.split, place, asked.results, lambda text: print(text, flush=True), rates
    )
    for question in questions:
        for data in question.profiles if asked.split == "val" else ():
            if asked.data and data not in asked.data:
                continue
            model = setup.data[data].model
            try:
                note_profile(model, data, place, asked.results)
            except OutOfTimeError as error:
                print(error, flush=True)
    print(f"{done.finished} runs done, {done.left} left, {len(done.failed)} failed.", flush=True)
    return int(bool(done.failed))


def _measure(asked: argparse.Namespace, setup: Setup, questions: list[Question]) -> int:
    from ablations.measure import measure_all
    from ablations.workplace import Workplace

    place = Workplace(asked.work_dir.resolve(), setup, asked.device)
    questions = _on_data(questions, asked.data, setup)
    measure_all(questions, place, asked.work_dir / "measured.jsonl", lambda text: print(text))
    return 0


def _predict(asked: argparse.Namespace, setup: Setup, questions: list[Question]) -> int:
    from ablations.predictions import note_predictions

    for question in questions:
        if question.students and not question.rows:
            count = note_predictions(Path(question.students), asked.profiles, asked.results)
            print(f"{count} cuts were noted.")
    return 0


def _tables(asked: argparse.Namespace, setup: Setup, questions: list[Question]) -> int:
    from ablations.page import write_pages

    if asked.only:
        raise ConfigError("Tables are written together.", hint="Leave out --only.")
    changed = write_pages(questions, setup, asked.results, check=asked.check)
    for path in changed:
        print(f"{path}: {'would change' if asked.check else 'written'}.")
    if not changed:
        print("Everything is as it was.")
    return int(asked.check and bool(changed))
