"""A draw of each class of broken data; `benchmarks/eval/data_mutations.py` runs thousands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.evaluation.hashed import Hashed
from tests.evaluation.mutations import CLASSES
from tests.evaluation.mutations.base import write_base
from tests.evaluation.mutations.trial import EQUAL, REFUSED, run_trial, unmutated

SEEDS = range(4)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("mutations")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PUMA_CACHE", str(folder / "cache"))
        yield folder, unmutated(write_base(folder / "base"), Hashed())


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_what_is_broken_is_named_and_what_is_harmless_changes_nothing(
    base: tuple[Path, dict[str, str]], name: str
) -> None:
    folder, known = base
    for seed in SEEDS:
        outcome = run_trial(folder / "base", folder / "room", name, seed, known, Hashed())
        assert outcome.kind in (REFUSED, EQUAL), f"{name} {seed}: {outcome.why}"


def test_harmless_differences_are_equal(base: tuple[Path, dict[str, str]]) -> None:
    folder, known = base
    for name in ("harmless differences", "animated images"):
        for seed in SEEDS:
            found = run_trial(folder / "base", folder / "room", name, seed, known, Hashed())
            assert found.kind == EQUAL, found.why


def test_the_classes_have_their_names() -> None:
    assert len(CLASSES) * 150 > 3_000
