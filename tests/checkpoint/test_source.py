"""A model's name leads to its folder, and a wrong one to the next step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from puma_cli.checkpoint import source
from puma_cli.checkpoint.source import resolve
from puma_cli.errors import CheckpointError


def test_a_folder_is_itself(base_weights: Path) -> None:
    assert resolve(base_weights) == base_weights
    assert resolve(str(base_weights)) == base_weights


def test_puma_mini_is_the_packaged_folder(
    base_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_PACKAGED", base_weights)
    assert resolve("puma-mini") == base_weights


@pytest.mark.parametrize("name", ["puma-mimi", "pumamini"])
def test_a_misspelt_name_gets_a_guess(name: str) -> None:
    with pytest.raises(CheckpointError, match="puma-mini"):
        resolve(name)


def test_a_misspelt_path_gets_a_guess(weights_copy: Path) -> None:
    with pytest.raises(CheckpointError, match="Did you mean") as caught:
        resolve(str(weights_copy.with_name("modle")))
    assert str(weights_copy) in caught.value.cause
    with pytest.raises(CheckpointError, match=r"There is no folder `.*no`"):
        resolve(str(weights_copy / "no" / "such" / "folder"))
    with pytest.raises(CheckpointError, match=r"There is no folder `.*config\.json`"):
        resolve(str(weights_copy / "config.json" / "x"))


def test_what_is_no_checkpoint_is_called_what_it_is(tmp_path: Path, base_weights: Path) -> None:
    with pytest.raises(CheckpointError, match="empty"):
        resolve(tmp_path)
    (tmp_path / "query").mkdir()
    with pytest.raises(CheckpointError, match="It holds a data set"):
        resolve(tmp_path)
    with pytest.raises(CheckpointError, match="is a file"):
        resolve(base_weights / "config.json")
    with pytest.raises(CheckpointError, match="checkpoints inside: `model`"):
        resolve(base_weights.parent)
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "settings.json").touch()
    with pytest.raises(CheckpointError, match="unfinished training"):
        resolve(tmp_path)


def test_a_config_without_weights_is_refused(weights_copy: Path) -> None:
    (weights_copy / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no `model\.safetensors`"):
        resolve(weights_copy)


def test_a_hub_id_is_fetched_at_its_revision_without_pickles(
    base_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def snapshot(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(base_weights)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert resolve("some-org/some-model@v1.0") == base_weights
    assert asked["name"] == "some-org/some-model"
    assert asked["revision"] == "v1.0"
    assert not any("bin" in pattern or "pt" in pattern for pattern in asked["allow_patterns"])


def test_an_unreachable_hub_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(*_: Any, **__: Any) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(CheckpointError, match="no network") as caught:
        resolve("some-org/some-model")
    assert "spelling" in caught.value.hint


def test_a_name_that_no_file_system_takes_and_a_config_from_elsewhere_are_refused(
    weights_copy: Path,
) -> None:
    with pytest.raises(CheckpointError, match="There is no model"):
        resolve("a" * 5000)
    (weights_copy / "config.json").rename(weights_copy.parent / "config.json")
    (weights_copy / "config.json").symlink_to("../config.json")
    with pytest.raises(CheckpointError, match="leads out of its checkpoint"):
        resolve(weights_copy)
