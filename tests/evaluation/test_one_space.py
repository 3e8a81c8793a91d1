"""Which models may be asked on which index: provenance, dimensions, and the user's word."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import puma_cli
from puma_cli.checkpoint.fingerprint import fingerprint
from puma_cli.checkpoint.provenance import Parent, describe, read_provenance, write_provenance
from puma_cli.errors import ConfigError
from puma_cli.evaluation.one_space import check_one_space
from puma_cli.evaluation.score_folder import read_scores


@pytest.fixture(scope="module")
def cut(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cut") / "cut"
    puma_cli.prune(puma_cli.PruneSettings(model=str(tiny_checkpoint), keep=2, output_dir=folder))
    return folder


def changed(folder: Path, target: Path) -> Path:
    """A copy of a checkpoint with one weight changed, and no history."""
    shutil.copytree(folder, target)
    (target / "puma.json").unlink(missing_ok=True)
    (weights,) = target.glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    return target


def taught(folder: Path, target: Path, role: str, parent: Path) -> Path:
    changed(folder, target)
    parents = [Parent(role, "elsewhere", fingerprint(parent))]
    write_provenance(target, describe("distill", {}, parents))
    return target


def test_a_cut_shares_its_parents_space(tiny_checkpoint: Path, cut: Path) -> None:
    assert "cut from the other" in check_one_space(cut, tiny_checkpoint)
    assert "candidates' model was cut" in check_one_space(tiny_checkpoint, cut)
    assert "same model" in check_one_space(cut, cut)


def test_a_student_shares_its_teachers_space_and_its_siblings(
    tiny_checkpoint: Path, cut: Path, tmp_path: Path
) -> None:
    one = taught(cut, tmp_path / "one", "teacher", tiny_checkpoint)
    assert "taught by" in check_one_space(one, tiny_checkpoint)
    # The other is a cut of the same model.
    assert "both were made from" in check_one_space(one, cut)


def test_what_a_parent_has_become_since_does_not_count(
    tiny_checkpoint: Path, cut: Path, tmp_path: Path
) -> None:
    other = changed(tiny_checkpoint, tmp_path / "other")
    with pytest.raises(ConfigError, match="one space") as caught:
        check_one_space(cut, other)
    assert "--any-space" in caught.value.hint
    assert "at the user's word" in check_one_space(cut, other, anyway=True)


def test_data_in_common_are_no_space(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folders = [
        taught(tiny_checkpoint, tmp_path / name, "data", tiny_checkpoint) for name in ("a", "b")
    ]
    content = bytearray(next(folders[1].glob("*.safetensors")).read_bytes())
    content[-3] ^= 1
    next(folders[1].glob("*.safetensors")).write_bytes(bytes(content))
    with pytest.raises(ConfigError, match="one space"):
        check_one_space(folders[0], folders[1])


def test_other_dimensions_are_refused_at_anybodys_word(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    narrow = tmp_path / "narrow"
    shutil.copytree(tiny_checkpoint, narrow)
    settings = json.loads((narrow / "embedder.json").read_text())
    settings["dimension"] = 16
    (narrow / "embedder.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="16 numbers"):
        check_one_space(narrow, tiny_checkpoint, anyway=True)


def settings(folder: Path, data: Path, model: Path, **other: object) -> puma_cli.EvaluateSettings:
    return puma_cli.EvaluateSettings(
        model=str(model),
        data=data,
        output_dir=folder,
        pools=("local",),
        tasks="*task0",
        cache=False,
        device="cpu",
        **other,  # type: ignore[arg-type]
    )


def test_queries_of_one_model_are_scored_on_the_index_of_another(
    tiny_checkpoint: Path, cut: Path, tiny_scenes: Path, tmp_path: Path
) -> None:
    mixed = puma_cli.evaluate(
        settings(tmp_path / "mixed", tiny_scenes, tiny_checkpoint, query_model=str(cut))
    )
    assert mixed.label == f"{cut} on {tiny_checkpoint}"
    read = read_scores(tmp_path / "mixed")
    assert (read.query_model, read.space) == (str(cut), mixed.space)
    assert "Asymmetric" in read.remarks[0] and "cut from" in read.remarks[0]
    provenance = read_provenance(tmp_path / "mixed")
    assert provenance is not None
    assert {parent.role for parent in provenance.parents} == {"model", "query_model", "data"}
    # The model itself as the model of queries changes nothing.
    alone = puma_cli.evaluate(settings(tmp_path / "alone", tiny_scenes, tiny_checkpoint))
    same = puma_cli.evaluate(
        settings(tmp_path / "same", tiny_scenes, tiny_checkpoint, query_model=str(tiny_checkpoint))
    )
    for one, two, other in zip(alone.rows, same.rows, mixed.rows, strict=True):
        assert one.ranks.tolist() == two.ranks.tolist()
        assert one.ranks.tolist() != other.ranks.tolist()
