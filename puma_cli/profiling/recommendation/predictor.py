"""What a trained student will keep of the full model's score, predicted from its untrained cut."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from puma_cli.profiling.records import build
from puma_cli.profiling.retrieval.readings import CUTS, read_depths
from puma_cli.profiling.retrieval.retention import Retention

FORMAT = 2
_NORMAL = 1.96


@dataclass(frozen=True)
class Formula:
    """kept = 1 - (1 - read)^gap / (1 + (k / L / half)^slope), what the training of a cut recovers.

    All is lost where no layer is left and nothing is read, and nothing where the cut reads out like
    the full model.

    Args:
        half: share of layers whose training recovers half of what is lost (> 0).
        slope: how steeply it recovers more with more layers (> 0).
        gap: power of the untrained loss (>= 0).
        error: root mean square error on models that were left out of the fit.
    """

    half: float
    slope: float
    gap: float
    error: float

    def __call__(self, read: float, share: float) -> float:
        """Return the share of the full score that the trained cut keeps, 0 to 1.

        Args:
            read: the share that the untrained cut keeps, bridged or not.
            share: the share of layers kept, k / L.
        """
        lost: float = max(0.0, 1.0 - read) ** self.gap / (1.0 + (share / self.half) ** self.slope)
        return 1.0 - lost


@dataclass(frozen=True)
class FittedOn:
    """The trained students behind a predictor.

    Args:
        models: names of the teachers.
        students: number of students.
        depths: smallest and largest number of layers of a teacher.
        dimensions: smallest and largest length of their embeddings.
        shares: smallest and largest share of layers kept.
        full: lowest and highest hit@1 of a teacher [0, 1].
        recipe: the settings that the students were trained by.
        steps: their optimizer steps.
        results: where the students are listed.
    """

    models: tuple[str, ...]
    students: int
    depths: tuple[int, ...]
    dimensions: tuple[int, ...]
    shares: tuple[float, ...]
    full: tuple[float, ...]
    recipe: str
    steps: int
    results: str


@dataclass(frozen=True)
class Predictor:
    """The shipped model over measured quantities.

    Args:
        bridged: reads the bridged cut.
        plain: reads the cut as it is, where no bridge was fitted.
        fitted_on: what both were fitted on.
    """

    bridged: Formula
    plain: Formula
    fitted_on: FittedOn


@dataclass(frozen=True)
class Prediction:
    """What trained students are predicted to keep.

    Args:
        kept: for each way to cut, `first` or `keep_last`, the share of the full model's hit@1 at
            depths 0 to L with 95% intervals.
        reads: what it rests on: `bridged` or `plain`.
        outside: in what the model or the data lie outside of what it was fitted on, in sentences.
        fitted_on: the students that it was fitted on.
    """

    kept: dict[str, Retention]
    reads: str
    outside: tuple[str, ...]
    fitted_on: FittedOn


@cache
def shipped_predictor() -> Predictor | None:
    """Return the predictor that comes with puma, or None where none does."""
    file = files(__package__).joinpath("predictor.json")
    if not file.is_file():
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    if content.pop("format") != FORMAT:
        raise ValueError("the shipped predictor is of another version")
    return build(Predictor, content)


def predict(
    retention: Mapping[str, Retention],
    *,
    dimension: int,
    full: float,
    predictor: Predictor | None = None,
) -> Prediction | None:
    """Return what trained students will keep, or None where nothing can tell.

    The interval adds up the predictor's error on models it had not seen, and what the untrained
    score may be off by for the number of queries.

    Args:
        retention: what untrained cuts keep by reading, `first` at least.
        dimension: length of the model's embeddings.
        full: mean hit@1 of the full model [0, 1].
        predictor: the shipped one by default.
    """
    predictor = predictor or shipped_predictor()
    if predictor is None or full <= 0.0:
        return None
    bridged = "bridged" in retention
    formula = predictor.bridged if bridged else predictor.plain
    kept = {
        cut: _curve(formula, retention[readings[bridged]], readings[bridged])
        for cut, readings in CUTS.items()
        if readings[bridged] in retention
    }
    depth = len(retention["first"].share) - 1
    return Prediction(
        kept=kept,
        reads="bridged" if bridged else "plain",
        outside=tuple(_outside(predictor.fitted_on, depth, dimension, full)),
        fitted_on=predictor.fitted_on,
    )


def _curve(formula: Formula, read: Retention, reading: str) -> Retention:
    depth = len(read.share) - 1
    known = read_depths(reading, depth)
    rows = [
        _interval(formula, read, k, k / depth) if k in known else (None, None, None)
        for k in range(depth)
    ]
    share, low, high = zip(*rows, (1.0, 1.0, 1.0), strict=True)
    return Retention(share, low, high)


def _interval(formula: Formula, read: Retention, k: int, share: float) -> Sequence[float | None]:
    at, low, high = read.share[k], read.low[k], read.high[k]
    if at is None:
        return None, None, None
    kept = formula(at, share)
    if low is None or high is None:
        # Too few queries to say how far off what was read may be.
        return kept, None, None
    drawn = (formula(high, share) - formula(low, share)) / (2 * _NORMAL)
    half = _NORMAL * math.hypot(formula.error, drawn)
    return kept, max(0.0, kept - half), kept + half


def _outside(known: FittedOn, depth: int, dimension: int, full: float) -> Sequence[str]:
    found = []
    if not known.depths[0] <= depth <= known.depths[1]:
        found.append(
            f"The model has {depth} decoder layers; the prediction was fitted on models of "
            f"{known.depths[0]} to {known.depths[1]}."
        )
    if not known.dimensions[0] <= dimension <= known.dimensions[1]:
        found.append(
            f"Its embeddings have {dimension:,} dimensions; the prediction was fitted on "
            f"{known.dimensions[0]:,} to {known.dimensions[1]:,}."
        )
    if not known.full[0] <= full <= known.full[1]:
        found.append(
            f"The full model scores {full:.1%} hit@1 on these data; the prediction was fitted "
            f"where it scores {known.full[0]:.0%} to {known.full[1]:.0%}."
        )
    return found
