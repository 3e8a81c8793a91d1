"""Benches made up for tests."""

from puma_cli.benching.results import (
    Bench,
    Kept,
    ModelResult,
    SideResult,
    Spread,
    Timing,
)


def make_model(
    name: str,
    *,
    seconds: float = 1.0,
    faster: float = 1.0,
    ideal: float = 1.0,
    layers: int = 12,
    kept: Kept | None = None,
) -> ModelResult:
    """Return a model that takes so long for everything."""
    timing = Timing(
        seconds=Spread(seconds, 0.9 * seconds, 1.2 * seconds),
        faster=Spread(faster, 0.95 * faster, 1.05 * faster),
        ideal=ideal,
    )
    side = SideResult(40.0, 16.0, 3e8, timing, timing, timing, timing)
    return ModelResult(
        name, name, layers, 5_640_000, 192, 11_300_000, 40_000_000, 384_000_000, side, side, kept
    )


def make_bench(*models: ModelResult, price: float = 1.0) -> Bench:
    """Return a bench of such models."""
    return Bench(
        models=models,
        inputs="a made-up mixture",
        queries=64,
        candidates=64,
        alone=8,
        rounds=9,
        device="cpu (x86_64, 2 threads)",
        dtype="float32",
        price_per_hour=price,
        metric="hit@1" if any(model.kept for model in models) else "",
    )


def make_family() -> Bench:
    """Return a teacher with three cuts of it, and what each keeps."""
    family = [("teacher", 12, 1.0), ("k8", 8, 0.98), ("k4", 4, 0.91), ("student-k2-seed0", 2, 0.7)]
    return make_bench(
        *(
            make_model(
                name,
                seconds=0.002 * (layers + 2),
                faster=0.95 * 14 / (layers + 2) if layers < 12 else 1.0,
                ideal=14 / (layers + 2),
                layers=layers,
                kept=Kept(0.64 * kept, kept, (kept - 0.03, kept + 0.03)),
            )
            for name, layers, kept in family
        )
    )
