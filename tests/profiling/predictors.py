"""An invented predictor, so that no test hangs on the coefficients that ship."""

from __future__ import annotations

from puma_cli.profiling.recommendation.predictor import FittedOn, Formula, Predictor

PREDICTOR = Predictor(
    bridged=Formula(half=0.2, slope=1.0, gap=1.0, error=0.02),
    plain=Formula(half=0.2, slope=1.5, gap=0.5, error=0.04),
    fitted_on=FittedOn(
        models=("one", "two"),
        students=24,
        depths=(8, 16),
        dimensions=(128, 192),
        shares=(0.2, 0.8),
        full=(0.3, 0.8),
        recipe="demo",
        steps=750,
        results="students.jsonl",
    ),
)
