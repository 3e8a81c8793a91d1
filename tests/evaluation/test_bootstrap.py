"""The bootstrap against a plain resampling loop and the normal approximation."""

from __future__ import annotations

import numpy as np
import pytest

from puma_cli.evaluation import bootstrap
from puma_cli.evaluation.bootstrap import (
    interval,
    ratio_interval,
    resampled_means,
    resampled_tasks,
)

RNG = np.random.default_rng(5)


def loop(values: np.ndarray, resamples: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.stack(
        [values[rng.integers(0, len(values), len(values))].mean(axis=0) for _ in range(resamples)]
    )


@pytest.mark.parametrize("kind", ["hits", "reals"])
def test_it_draws_like_a_resampling_loop(kind: str) -> None:
    reals = RNG.random((120, 2))
    values = (reals < [0.7, 0.6]).astype(float) if kind == "hits" else reals
    drawn = resampled_means(values, 20_000, np.random.default_rng(0))
    reference = loop(values, 20_000)
    assert drawn.mean(axis=0) == pytest.approx(values.mean(axis=0), abs=1e-3)
    assert np.cov(drawn.T) == pytest.approx(np.cov(reference.T), rel=0.06, abs=2e-5)
    for q in (2.5, 50, 97.5):
        assert np.percentile(drawn, q, axis=0) == pytest.approx(
            np.percentile(reference, q, axis=0),
            abs=1 / 119,  # a hit rate moves in such steps
        )


def test_the_interval_of_a_share_is_close_to_the_normal_one() -> None:
    values = np.repeat([1.0, 0.0], [300, 200])[:, None]
    low, high = interval(resampled_means(values, 20_000, np.random.default_rng(0))[:, 0])
    half = 1.96 * np.sqrt(0.6 * 0.4 / 500)
    assert (low, high) == pytest.approx((0.6 - half, 0.6 + half), abs=0.003)


def test_it_is_paired() -> None:
    """Equal models never differ in any draw; independent draws would."""
    hits = (RNG.random(200) < 0.5).astype(float)
    drawn = resampled_means(np.stack([hits, hits], axis=1), 2000, np.random.default_rng(0))
    assert (drawn[:, 0] == drawn[:, 1]).all()
    assert drawn[:, 0].std() > 0.02
    assert ratio_interval(drawn[:, 1], drawn[:, 0]) == (1, 1)


def test_tasks_weigh_the_same_whatever_their_size() -> None:
    tasks = [np.ones((1000, 1)), np.zeros((3, 1)), np.repeat([[1.0], [0.0]], 50, axis=0)]
    drawn, mean = resampled_tasks(tasks, 4000, seed=0)
    assert drawn.shape == (3, 4000, 1)
    assert (drawn[0] == 1).all()
    assert (drawn[1] == 0).all()
    assert mean.mean() == pytest.approx(0.5, abs=0.003)
    assert mean.std() == pytest.approx(0.05 / 3, rel=0.1)


def test_the_seed_decides_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [RNG.random((40, 2)), RNG.random((30, 2))]
    _, first = resampled_tasks(tasks, 500, seed=3)
    _, second = resampled_tasks(tasks, 500, seed=3)
    _, other = resampled_tasks(tasks, 500, seed=4)
    monkeypatch.setattr(bootstrap, "_CELLS", 1000)
    _, chunked = resampled_tasks(tasks, 500, seed=3)
    assert (first == second).all()
    assert np.allclose(first, chunked)
    assert not (first == other).all()


def test_a_ratio_to_a_reference_that_hardly_scores_has_no_interval() -> None:
    rare = np.zeros((100, 2))
    rare[0] = 1
    drawn = resampled_means(rare, 1000, np.random.default_rng(0))
    assert ratio_interval(drawn[:, 1], drawn[:, 0]) is None
