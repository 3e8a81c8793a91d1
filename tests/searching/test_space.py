"""Which models may be asked on an index: the one that made it, and those of its space."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import puma_cli
from puma_cli.checkpoint.fingerprint import fingerprint, full_hash
from puma_cli.checkpoint.provenance import Parent, describe, write_provenance
from puma_cli.embedding.index_file import read_description
from puma_cli.errors import ConfigError
from puma_cli.searching.space import check_space
from tests.searching.conftest import Make


@pytest.fixture(scope="module")
def cut(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cut") / "cut"
    puma_cli.prune(puma_cli.PruneSettings(model=str(tiny_checkpoint), keep=2, output_dir=folder))
    return folder


def changed(folder: Path, target: Path, parents: list[Parent] | None = None) -> Path:
    """Return a copy of a checkpoint with one weight changed, and no history but `parents`."""
    shutil.copytree(folder, target)
    (target / "puma.json").unlink(missing_ok=True)
    (weights,) = target.glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    if parents:
        write_provenance(target, describe("distill", {}, parents))
    return target


def relation(model: Path, index: Path, anyway: bool = False) -> str:
    return check_space(str(model), model, index, read_description(index), anyway)


def test_the_model_itself_and_its_copies(
    make_index: Make, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    assert relation(tiny_checkpoint, make_index()) == "the index's own model"
    copy = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, copy)
    assert relation(copy, make_index()) == "the index's own model"


@pytest.mark.parametrize("mark", [fingerprint, full_hash])
def test_a_student_is_asked_on_its_teachers_index(
    make_index: Make, tiny_checkpoint: Path, cut: Path, tmp_path: Path, mark: Callable[[Path], str]
) -> None:
    teacher = Parent("teacher", "elsewhere", mark(tiny_checkpoint))
    student = changed(cut, tmp_path / "student", [teacher])
    assert "taught by the index's model" in relation(student, make_index())
    assert "was taught by it" in relation(tiny_checkpoint, make_index(model=student))
    assert "cut from the index's model" in relation(cut, make_index())


def test_siblings_share_their_parents_space(
    make_index: Make, tiny_checkpoint: Path, cut: Path, tmp_path: Path
) -> None:
    teacher = Parent("teacher", "the teacher", fingerprint(tiny_checkpoint))
    student = changed(cut, tmp_path / "student", [teacher])
    assert "both were made from" in relation(student, make_index(model=cut))


def test_other_models_are_refused(make_index: Make, tiny_checkpoint: Path, tmp_path: Path) -> None:
    data = Parent("data", "the data", fingerprint(tiny_checkpoint))
    other = changed(tiny_checkpoint, tmp_path / "other", [data])
    with pytest.raises(ConfigError, match="another embedding space") as caught:
        relation(other, make_index())
    assert "--any-space" in caught.value.hint and str(tiny_checkpoint) in caught.value.hint
    assert "at the user's word" in relation(other, make_index(), anyway=True)


def test_a_model_that_changed_since_is_told_from_another(
    make_index: Make, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, model)
    # Made for this name, so that the index knows it.
    index = make_index(model=model)
    shutil.rmtree(model)
    changed(tiny_checkpoint, model)
    with pytest.raises(ConfigError, match="not the model any more") as caught:
        relation(model, index)
    assert "--overwrite" in caught.value.hint


def test_other_dimensions_are_refused_at_anybodys_word(
    make_index: Make, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    import json

    narrow = tmp_path / "narrow"
    shutil.copytree(tiny_checkpoint, narrow)
    settings = json.loads((narrow / "embedder.json").read_text())
    settings["dimension"] = 16
    (narrow / "embedder.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="16 numbers"):
        relation(narrow, make_index(), anyway=True)
