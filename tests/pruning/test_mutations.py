"""Broken and hostile checkpoints end in a sentence, or in a cut whose tensors are theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pruning.mutations import CLASSES
from tests.pruning.mutations.trial import EQUAL, FAILED, REFUSED, run_trial, write_parent
from tests.pruning.mutations.watch import Watch

SAMPLE, MANY = 4, 150


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parent(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


def test_the_checkpoint_that_is_broken_can_be_cut(
    base: Path, tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CLASSES, "nothing", lambda *_: None)
    outcome = run_trial(base, tmp_path / "room", "nothing", 0, watch)
    assert (outcome.kind, outcome.why) == (EQUAL, "")


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_sample_of_each_class_is_refused_or_cut_right(
    base: Path, tmp_path: Path, watch: Watch, name: str
) -> None:
    outcomes = [run_trial(base, tmp_path / "room", name, seed, watch) for seed in range(SAMPLE)]
    assert [outcome.why for outcome in outcomes if outcome.kind == FAILED] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CLASSES))
def test_all_of_each_class_are_refused_or_cut_right(
    base: Path, tmp_path: Path, watch: Watch, name: str
) -> None:
    outcomes = [run_trial(base, tmp_path / "room", name, seed, watch) for seed in range(MANY)]
    assert [outcome.why for outcome in outcomes if outcome.kind == FAILED] == []
    assert REFUSED in {outcome.kind for outcome in outcomes}


def test_the_judge_sees_what_a_careless_cut_would_do(
    base: Path, tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CLASSES, "nothing", lambda *_: None)

    def judge(cut: object) -> str:
        outcome = run_trial(base, tmp_path / "room", "nothing", 0, watch, cut)  # type: ignore[arg-type]
        assert outcome.kind == FAILED
        return outcome.why

    def spoilt(parent: Path, target: Path) -> None:
        from tests.pruning.mutations.trial import cut_here

        cut_here(parent, target)
        weights = sorted(target.glob("*.safetensors"))[-1]
        raw = weights.read_bytes()
        weights.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))

    def reads_secret(parent: Path, target: Path) -> None:
        (parent.parent / "outside" / "secret.txt").read_text()

    def runs_code(parent: Path, target: Path) -> None:
        exec(compile("1", str(parent / "modeling_own.py"), "exec"))

    def leaves_half(parent: Path, target: Path) -> None:
        target.with_name(".cut.partial-00000000").mkdir()
        raise ValueError

    assert "differs" in judge(spoilt)
    assert "secret.txt" in judge(reads_secret)
    assert "code of the checkpoint was run" in judge(runs_code)
    assert "there is left" in judge(leaves_half)
