"""That the benchmark cannot be guessed, at its default size; no picture is drawn for it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from puma_cli.data.scenes.changes import edits_to
from puma_cli.data.scenes.families import Target, make_plan
from puma_cli.data.scenes.pictures import Pictures
from puma_cli.data.scenes.pools import Pool
from puma_cli.data.scenes.queries import QueryWriter
from puma_cli.data.scenes.scene import Scene, Thing
from tests.data.scenes.reading import bag, differences


class NoPictures(Pictures):
    """Draws nothing."""

    def _write(self, scene: Scene, purpose: str, shading: int) -> str:
        return repr(scene)


class Guess(NamedTuple):
    """A query's task, its target and the scenes that are positives."""

    task: int
    target: Scene
    positives: frozenset[Scene]
    shown: str | None


Oracle = Callable[[Guess], set[Scene]]


class Benchmark(NamedTuple):
    pool: list[Scene]
    targets: dict[str, list[Target]]
    guesses: dict[str, list[Guess]]


@pytest.fixture(scope="module", params=[0, 1])
def benchmark(request: pytest.FixtureRequest) -> Benchmark:
    plan = make_plan(request.param, 1, 200, 60)
    pool = Pool(plan.pool, 1, "0")
    scene_of = {pool.did(s, m): s for s in plan.pool for m in ("image", "text", "image,text")}
    writer = QueryWriter(pool, NoPictures(Path(), "heldout", 0), count(1), "0")
    guesses = {
        split: [
            Guess(
                row["task_id"],
                target.scene,
                frozenset(scene_of[did] for did in row["pos_cand_list"]),
                row["query_img_path"],
            )
            for target in targets
            for row in writer.rows(target.scene, source=target.source)
        ]
        for split, targets in plan.targets.items()
    }
    return Benchmark(plan.pool, plan.targets, guesses)


def hit_rates(guesses: Iterable[Guess], oracle: Oracle) -> dict[int, float]:
    """Mean hit@1 by task of an oracle that guesses evenly among the scenes it cannot tell apart."""
    hits: defaultdict[int, float] = defaultdict(float)
    totals: Counter[int] = Counter()
    for guess in guesses:
        choices = oracle(guess)
        hits[guess.task] += len(guess.positives & choices) / len(choices)
        totals[guess.task] += 1
    return {task: hits[task] / total for task, total in totals.items()}


def test_pools_are_large_and_their_scenes_unique(benchmark: Benchmark) -> None:
    assert len(benchmark.pool) == len(set(benchmark.pool)) >= 2000


def test_each_target_has_four_candidates_one_step_away(benchmark: Benchmark) -> None:
    by_thing: dict[Thing, list[Scene]] = {}
    for scene in benchmark.pool:
        for thing in scene.things:
            by_thing.setdefault(thing, []).append(scene)
    for targets in benchmark.targets.values():
        for target in targets:
            # A scene with neither of the target's things differs from it in two at least.
            alike = {scene for thing in target.scene.things for scene in by_thing[thing]}
            near = [scene for scene in alike if differences(scene, target.scene) == 1]
            assert len(near) >= 4


def test_each_target_has_three_candidates_of_the_same_bag(benchmark: Benchmark) -> None:
    sizes = Counter(map(bag, benchmark.pool))
    for targets in benchmark.targets.values():
        assert min(sizes[bag(target.scene)] for target in targets) >= 4


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_bag_of_attributes_hits_less_than_half(benchmark: Benchmark, split: str) -> None:
    by_bag: dict[object, set[Scene]] = {}
    for scene in benchmark.pool:
        by_bag.setdefault(bag(scene), set()).add(scene)
    rates = hit_rates(benchmark.guesses[split], lambda guess: by_bag[bag(guess.target)])
    assert max(rates.values()) < 0.5, rates


@pytest.mark.parametrize("split", ["val", "test"])
def test_what_is_nearest_to_an_edited_picture_hits_less_than_a_third(
    benchmark: Benchmark, split: str
) -> None:
    pool = set(benchmark.pool)
    sources = {target.scene: target.source for target in benchmark.targets[split]}

    def near(guess: Guess) -> set[Scene]:
        source = sources[guess.target]
        assert guess.shown == repr(source)
        return {edit.source for edits in edits_to(source).values() for edit in edits} & pool

    edited = [guess for guess in benchmark.guesses[split] if guess.task in (6, 7, 8)]
    rates = hit_rates(edited, near)
    assert max(rates.values()) < 1 / 3, rates


def test_a_picture_asked_to_change_is_in_the_pool_and_is_not_the_answer(
    benchmark: Benchmark,
) -> None:
    pool = set(benchmark.pool)
    for targets in benchmark.targets.values():
        for target in targets:
            assert target.source in pool
            assert differences(target.source, target.scene) == 1
