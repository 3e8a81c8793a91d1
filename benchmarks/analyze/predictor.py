"""Fit and judge the predictor of what a trained student keeps, on students really trained.

    python benchmarks/analyze/predictor.py --students docs/results/analyze-students.jsonl \\
        --profiles runs/students/profiles --page docs/results/predictor.md \\
        --write puma_cli/profiling/recommendation/predictor.json

`--profiles` holds one profile folder for each teacher, under the teacher's name in the results. All
errors are on models left out of the fit: each teacher in turn is predicted from the others. Every
quantity of a profile is given the same chance, a monotone curve from the quantity to the retention;
the number of layers alone, as a share of all, is the baseline.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puma_cli.profiling.profile import LayerProfile, read_profile
from puma_cli.profiling.recommendation.predictor import FORMAT, FittedOn, Formula, Predictor

TARGETS = (0.8, 0.9, 0.95)
DRAWS = 2_000
# What the formula's coefficients may be.
HALVES = np.geomspace(0.03, 1.0, 41)
SLOPES = np.arange(0.5, 6.01, 0.1)
GAPS = np.arange(0.0, 2.01, 0.05)

# What the whole model has of a quantity, where that is not 1.
WHOLE = {
    "angular distance over the dropped block": 0.0,
    "block influence of the dropped layers": 0.0,
}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Student:
    """One cut, trained with several seeds.

    Args:
        teacher: the teacher's name.
        layers: the layers kept.
        depth: decoder layers of the teacher.
        kept: retention of the trained cut, mean over the seeds.
        noise: standard error of `kept`, over queries and seeds.
        seeds: number of seeds.
        quantities: what the teacher's profile says about the cut, by name.
    """

    teacher: str
    layers: tuple[int, ...]
    depth: int
    kept: float
    noise: float
    seeds: int
    quantities: dict[str, float]

    @property
    def k(self) -> int:
        return len(self.layers)

    @property
    def is_first(self) -> bool:
        return self.layers == tuple(range(self.k))

    @property
    def named(self) -> str:
        """The layers as `puma prune --layers` takes them, such as 0-2,11."""
        if self.is_first:
            return f"0-{self.k - 1}"
        return f"0-{self.k - 2},{self.layers[-1]}"


def main() -> None:
    """Judge every quantity, fit the formulas, and write both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=Path, required=True)
    parser.add_argument("--profiles", type=Path, required=True)
    parser.add_argument("--write", type=Path, help="where the fitted predictor goes")
    parser.add_argument("--page", type=Path, help="where the tables go")
    asked = parser.parse_args()
    lines = [json.loads(line) for line in asked.students.read_text("utf-8").splitlines()]
    names = sorted({line["teacher"] for line in lines})
    origins = {(line["teacher"], line["made_from"], line["split"]) for line in lines}
    if len(origins) > len(names):
        parser.error("A teacher's students were not all trained and scored alike.")
    profiles = {name: read_profile(asked.profiles / name) for name in names}
    students = gather(lines, profiles)
    page = report(students, names)
    if asked.page:
        asked.page.write_text(page, encoding="utf-8")
    print(page)
    if asked.write:
        fitted = fit_all(students, lines, profiles, asked.students)
        content = {"format": FORMAT, **asdict(fitted)}
        asked.write.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def gather(lines: Sequence[dict[str, Any]], profiles: dict[str, LayerProfile]) -> list[Student]:
    """Return one entry for each cut, its seeds together."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        groups[line["teacher"], line["layers"]].append(line)
    found = []
    for (teacher, text), runs in sorted(groups.items()):
        layers = tuple(map(int, text.split(",")))
        kept = [run["retention"] for run in runs]
        # Seeds share the queries; what differs between them adds to what the queries' draw may do.
        between = np.var(kept, ddof=1) / len(kept) if len(kept) > 1 else 0.0
        noise = float(np.sqrt(np.mean([run["standard_error"] ** 2 for run in runs]) + between))
        found.append(
            Student(
                teacher,
                layers,
                runs[0]["depth"],
                float(np.mean(kept)),
                noise,
                len(runs),
                quantities(profiles[teacher], layers),
            )
        )
    return found


def quantities(profile: LayerProfile, layers: tuple[int, ...]) -> dict[str, float]:
    """Return what the profile says about one cut; larger is better in all of them."""
    k, depth = len(layers), profile.depth
    first = layers == tuple(range(k))
    # A cut that keeps the last layer skips the block before it.
    start, end = (k, depth) if first else (k - 1, depth - 1)
    dropped = sorted(set(range(depth)) - set(layers))
    cosine = profile.over_inputs([g.cosine_grid[start][end - start - 1] for g in profile.at_embed])
    angle = profile.over_inputs([g.angular_grid[start][end - start - 1] for g in profile.at_embed])
    centred = [g.centred_grid[start][end - start - 1] for g in profile.at_embed]
    found = {
        "k / L": k / depth,
        "untrained retention": _kept(profile, "first" if first else "keep_last", k),
        "bridged retention": _kept(profile, "bridged" if first else "keep_last_bridged", k),
        "cosine over the dropped block": cosine,
        "angular distance over the dropped block": -angle,
        "block influence of the dropped layers": -sum(map(profile.block_influence, dropped)),
    }
    known = [value for value in centred if value is not None]
    if len(known) == len(centred):
        found["centred cosine over the dropped block"] = profile.over_inputs(known)
    return found


def _kept(profile: LayerProfile, reading: str, k: int) -> float:
    share = profile.retention[reading].share[k]
    assert share is not None
    return share


# What turns quantities of known cuts into a prediction of another cut.
Fit = Callable[[Sequence[Student]], Callable[[Student], float]]


def curve_over(name: str) -> Fit:
    """Return a fit of a monotone curve over one quantity."""

    def fit(known: Sequence[Student]) -> Callable[[Student], float]:
        # The full model is a point of every curve, as it is one of the formula.
        x = np.array([*(student.quantities[name] for student in known), WHOLE.get(name, 1.0)])
        kept = np.array([*(student.kept for student in known), 1.0])
        places, which = np.unique(x, return_inverse=True)
        counts = np.bincount(which).astype(np.float64)
        y = monotone(np.bincount(which, weights=kept) / counts, counts)
        return lambda student: float(np.interp(student.quantities[name], places, y))

    return fit


def formula_over(name: str) -> Fit:
    """Return a fit of the shipped formula over one quantity and the share of layers."""

    def fit(known: Sequence[Student]) -> Callable[[Student], float]:
        found = fit_formula(known, name)
        return lambda student: found(student.quantities[name], student.k / student.depth)

    return fit


def fit_formula(known: Sequence[Student], name: str) -> Formula:
    """Return the formula with the least squares error, teachers weighted alike."""
    kept = np.array([student.kept for student in known])
    gap = np.array([max(0.0, 1.0 - student.quantities[name]) for student in known])
    share = np.array([student.k / student.depth for student in known])
    counts = Counter(student.teacher for student in known)
    weight = np.array([1.0 / counts[student.teacher] for student in known])
    half, slope = (grid.ravel() for grid in np.meshgrid(HALVES, SLOPES))
    unread = 1.0 / (1.0 + (share / half[:, None]) ** slope[:, None])
    best: tuple[float, Formula] | None = None
    for power in GAPS:
        errors = (weight * (1.0 - unread * gap**power - kept) ** 2).sum(axis=1)
        place = int(errors.argmin())
        if best is None or errors[place] < best[0]:
            coefficients = float(half[place]), float(slope[place]), float(power)
            best = float(errors[place]), Formula(*coefficients, error=0.0)
    assert best is not None
    return best[1]


def monotone(values: Floats, weights: Floats) -> Floats:
    """Return the non-decreasing sequence nearest to `values` in least squares (pool adjacent)."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        mean, total, size = float(value), float(weight), 1
        while blocks and blocks[-1][0] > mean:
            before, heavy, count = blocks.pop()
            mean = (before * heavy + mean * total) / (heavy + total)
            total, size = heavy + total, count + size
        blocks.append((mean, total, size))
    return np.concatenate([np.full(size, mean) for mean, _, size in blocks])


def left_out(students: Sequence[Student], fit: Fit) -> Floats:
    """Return the prediction of every student from the other teachers' students."""
    found = np.empty(len(students))
    for teacher in {student.teacher for student in students}:
        predict = fit([student for student in students if student.teacher != teacher])
        for place, student in enumerate(students):
            if student.teacher == teacher:
                found[place] = predict(student)
    return found


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Return Spearman's correlation of two lists; 0 where one says nothing."""
    first, second = mean_ranks(x), mean_ranks(y)
    if np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def mean_ranks(values: Sequence[float]) -> Floats:
    """Return the rank of each value, the mean of their ranks for equal ones."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[which].astype(np.float64)


def depth_for(ks: Sequence[int], kept: Sequence[float], depth: int, target: float) -> float:
    """Return the smallest k that reaches the target on straight lines through the known depths."""
    xs = [0, *ks, depth]
    ys = monotone(np.array([0.0, *kept, 1.0]), np.ones(len(xs)))
    grid = np.arange(1, depth + 1)
    reached = np.interp(grid, xs, ys) >= target - 1e-9
    return float(grid[reached][0]) if reached.any() else float(depth)


def report(students: Sequence[Student], names: Sequence[str]) -> str:
    """Return the tables of errors as Markdown."""
    firsts = [student for student in students if student.is_first]
    others = [student for student in students if not student.is_first]
    known = set.intersection(*(set(student.quantities) for student in students))
    fits: dict[str, Fit] = {
        f"{name}{' alone (the baseline)' if name == 'k / L' else ''}": curve_over(name)
        for name in students[0].quantities
        if name in known
    }
    fits["formula: bridged retention and k / L"] = formula_over("bridged retention")
    fits["formula: untrained retention and k / L"] = formula_over("untrained retention")
    fits["formula: k / L alone"] = formula_over("k / L")
    lines = [
        "## Predictors",
        "",
        f"{len(students)} cuts of {len(names)} teachers, {sum(s.seeds for s in students)} "
        "students. MAE: mean absolute error of the predicted retention in points, of first-k cuts "
        "and of all; each teacher is predicted from the others. Rank: Spearman's correlation of "
        "predicted and trained retention within a teacher, mean. Off by: mean and largest "
        "distance, in layers, of the smallest k predicted to reach "
        f"{', '.join(f'{t:.0%}' for t in TARGETS)} from the true one.",
        "",
        "| quantity | MAE, first k (95% interval) | MAE, all | rank | off by, mean | most |",
        "|---|---|---|---|---|---|",
    ]
    for name, fit in fits.items():
        all_found = left_out(students, fit)
        found = np.array([v for s, v in zip(students, all_found, strict=True) if s.is_first])
        low, high = mae_interval(firsts, found)
        off = depth_errors(firsts, found)
        lines.append(
            f"| {name} | {100 * mae(firsts, found):.1f} ({100 * low:.1f} to {100 * high:.1f}) | "
            f"{100 * mae(students, all_found):.1f} | {ranks(firsts, found):.2f} | "
            f"{np.mean(off):.2f} | {max(off):.0f} |"
        )
    lines += ["", "## Cuts of equal k", ""]
    lines += equal_k(students, fits) if others else ["No cut but first layers was trained."]
    lines += ["", "## The true k", "", *true_depths(firsts, names)]
    lines += ["", "## Students", "", *student_table(students, left_out(students, fits[BEST]))]
    return "\n".join(lines) + "\n"


BEST = "formula: bridged retention and k / L"


def mae(students: Sequence[Student], found: Floats) -> float:
    """Return the mean absolute error, each teacher counted alike."""
    errors = defaultdict(list)
    for student, value in zip(students, found, strict=True):
        errors[student.teacher].append(abs(value - student.kept))
    return float(np.mean([np.mean(values) for values in errors.values()]))


def mae_interval(students: Sequence[Student], found: Floats) -> tuple[float, float]:
    """Return the 95% interval of the error, students drawn again within each teacher."""
    random = np.random.default_rng(0)
    errors = defaultdict(list)
    for student, value in zip(students, found, strict=True):
        errors[student.teacher].append(abs(value - student.kept))
    drawn = [
        np.mean([np.mean(random.choice(values, len(values))) for values in errors.values()])
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def ranks(students: Sequence[Student], found: Floats) -> float:
    """Return the rank correlation within a teacher, mean over teachers."""
    values = []
    for teacher in {student.teacher for student in students}:
        places = [i for i, student in enumerate(students) if student.teacher == teacher]
        values.append(
            rank_correlation([found[i] for i in places], [students[i].kept for i in places])
        )
    return float(np.mean(values))


def depth_errors(students: Sequence[Student], found: Floats) -> list[float]:
    """Return, for each teacher and target, how many layers the predicted k is off."""
    errors = []
    for teacher in sorted({student.teacher for student in students}):
        rows = sorted(
            ((s.k, s.kept, v) for s, v in zip(students, found, strict=True) if s.teacher == teacher)
        )
        depth = next(s.depth for s in students if s.teacher == teacher)
        ks, kept, predicted = (list(column) for column in zip(*rows, strict=True))
        errors += [
            abs(depth_for(ks, predicted, depth, t) - depth_for(ks, kept, depth, t)) for t in TARGETS
        ]
    return errors


def equal_k(students: Sequence[Student], fits: dict[str, Fit]) -> list[str]:
    """Return how often a quantity tells which of two cuts of one size trains to more."""
    pairs = [
        (a, b)
        for a, b in itertools.combinations(range(len(students)), 2)
        if students[a].teacher == students[b].teacher and students[a].k == students[b].k
    ]
    clear = [
        (a, b)
        for a, b in pairs
        if abs(students[a].kept - students[b].kept)
        > 1.96 * np.hypot(students[a].noise, students[b].noise)
    ]
    lines = [
        f"{len(pairs)} pairs of cuts with the same number of layers, {len(clear)} of which differ "
        "by more than their noise. Share of pairs whose better cut has the larger quantity:",
        "",
        "| quantity | all pairs | clear pairs |",
        "|---|---|---|",
    ]
    for name in students[0].quantities:
        if name == "k / L":
            continue
        shares = []
        for chosen in (pairs, clear):
            right = [
                (students[a].quantities[name] > students[b].quantities[name])
                == (students[a].kept > students[b].kept)
                for a, b in chosen
            ]
            shares.append(f"{np.mean(right):.0%}" if right else "–")
        lines.append(f"| {name} | {' | '.join(shares)} |")
    return lines


def true_depths(students: Sequence[Student], names: Sequence[str]) -> list[str]:
    """Return the smallest k that reaches each target, with an interval, by teacher."""
    random = np.random.default_rng(0)
    lines = [
        "The smallest k whose retention reaches the target on a monotone fit over the trained "
        "depths, straight lines between them; 95% intervals over queries and seeds.",
        "",
        f"| teacher | {' | '.join(f'{target:.0%}' for target in TARGETS)} |",
        "|---|" + "---|" * len(TARGETS),
    ]
    for name in names:
        rows = sorted((s.k, s.kept, s.noise) for s in students if s.teacher == name)
        depth = next(s.depth for s in students if s.teacher == name)
        ks, kept, noise = (list(column) for column in zip(*rows, strict=True))
        cells = []
        for target in TARGETS:
            drawn = [
                depth_for(ks, random.normal(kept, noise).tolist(), depth, target)
                for _ in range(DRAWS)
            ]
            low, high = np.quantile(drawn, (0.025, 0.975))
            cells.append(f"{depth_for(ks, kept, depth, target):.0f} ({low:.0f} to {high:.0f})")
        lines.append(f"| {name}, {depth} layers | {' | '.join(cells)} |")
    return lines


def student_table(students: Sequence[Student], found: Floats) -> list[str]:
    """Return every cut with what it keeps, and what was predicted without its teacher."""
    lines = [
        "Kept: share of the teacher's mean hit@1 on test, mean over seeds, with its standard error "
        "in points. Predicted: by the formula over bridged retention, fitted on other teachers.",
        "",
        "| teacher | layers | seeds | untrained | bridged | kept | predicted |",
        "|---|---|---|---|---|---|---|",
    ]
    for student, value in zip(students, found, strict=True):
        read = student.quantities
        lines.append(
            f"| {student.teacher} | {student.named} | {student.seeds} | "
            f"{read['untrained retention']:.1%} | {read['bridged retention']:.1%} | "
            f"{student.kept:.1%} ± {100 * student.noise:.1f} | {value:.1%} |"
        )
    return lines


def fit_all(
    students: Sequence[Student],
    lines: Sequence[dict[str, Any]],
    profiles: dict[str, LayerProfile],
    results: Path,
) -> Predictor:
    """Return the formulas fitted on all teachers, with their errors on those left out."""
    formulas = []
    for name in ("bridged retention", "untrained retention"):
        missed = left_out(students, formula_over(name)) - np.array([s.kept for s in students])
        formula = fit_formula(students, name)
        formulas.append(replace(formula, error=float(np.sqrt(np.mean(missed**2)))))
    full = [profile.mean()[-1] for profile in profiles.values()]
    shares = [student.k / student.depth for student in students]
    (recipe,) = {line["recipe"] for line in lines}
    (steps,) = {line["steps"] for line in lines}
    return Predictor(
        bridged=formulas[0],
        plain=formulas[1],
        fitted_on=FittedOn(
            models=tuple(profiles),
            students=len(lines),
            depths=_ends([profile.depth for profile in profiles.values()]),
            dimensions=_ends([profile.dimension for profile in profiles.values()]),
            shares=_ends(shares),
            full=_ends(full),
            recipe=recipe,
            steps=steps,
            results=results.name,
        ),
    )


def _ends(values: Sequence[Any]) -> tuple[Any, Any]:
    return min(values), max(values)


if __name__ == "__main__":
    main()
