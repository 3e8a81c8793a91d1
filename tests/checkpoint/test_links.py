"""Files are opened only where a checkpoint's files may be."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from puma_cli.checkpoint.links import checked_file, open_regular
from puma_cli.checkpoint.safetensors_header import checkpoint_headers
from puma_cli.errors import CheckpointError


def snapshot(base: Path, cache: Path) -> Path:
    """Lay a checkpoint out as the hub cache does: links into `blobs`."""
    folder = cache / "models--some-org--model" / "snapshots" / ("0" * 40)
    blobs = folder.parent.parent / "blobs"
    for room in (folder, blobs):
        room.mkdir(parents=True)
    for number, file in enumerate(sorted(base.iterdir())):
        shutil.copy(file, blobs / f"blob{number}")
        (folder / file.name).symlink_to(f"../../blobs/blob{number}")
    return folder


def test_files_and_links_within_the_folder_are_followed(weights_copy: Path, tmp_path: Path) -> None:
    real = weights_copy / "model.safetensors"
    assert checked_file(weights_copy, real) == real.resolve()
    (weights_copy / "inner").mkdir()
    (weights_copy / "inner" / "link").symlink_to("../model.safetensors")
    assert checked_file(weights_copy, weights_copy / "inner" / "link") == real.resolve()
    (tmp_path / "other-way").symlink_to(weights_copy)
    through = tmp_path / "other-way"
    assert checked_file(through, through / "model.safetensors") == real.resolve()


def test_a_snapshot_of_the_hub_cache_reads_its_blobs_and_no_others(
    base_weights: Path, tmp_path: Path
) -> None:
    folder = snapshot(base_weights, tmp_path)
    assert checkpoint_headers(folder).keys() == checkpoint_headers(base_weights).keys()
    (tmp_path / "models--some-org--other").mkdir()
    stray = tmp_path / "models--some-org--other" / "blob"
    stray.write_text("{}")
    (folder / "stray.json").symlink_to(stray)
    with pytest.raises(CheckpointError, match="leads out of its checkpoint"):
        checked_file(folder, folder / "stray.json")


@pytest.mark.parametrize("target", ["../secret.json", "/etc/passwd", "inner/../../secret.json"])
def test_links_that_lead_out_are_refused(weights_copy: Path, target: str) -> None:
    (weights_copy.parent / "secret.json").write_text("{}")
    (weights_copy / "inner").mkdir()
    (weights_copy / "config.json").unlink()
    (weights_copy / "config.json").symlink_to(target)
    with pytest.raises(CheckpointError, match="leads out of its checkpoint"):
        checked_file(weights_copy, weights_copy / "config.json")
    with pytest.raises(CheckpointError, match="leads out of its checkpoint"):
        checked_file(weights_copy, weights_copy / "inner" / ".." / ".." / "secret.json")


def test_a_folder_whose_name_continues_the_checkpoints_is_another(weights_copy: Path) -> None:
    beside = weights_copy.with_name("model2")
    beside.mkdir()
    (beside / "a").touch()
    with pytest.raises(CheckpointError, match="leads out"):
        checked_file(weights_copy, beside / "a")


def test_circles_dangling_links_and_missing_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").symlink_to("nowhere")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checked_file(tmp_path, tmp_path / "a")
    with pytest.raises(CheckpointError, match="leads nowhere"):
        checked_file(tmp_path, tmp_path / "c")
    with pytest.raises(CheckpointError, match="is missing"):
        checked_file(tmp_path, tmp_path / "d")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checked_file(tmp_path, tmp_path / "e\0f")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_pipes_and_folders_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    (tmp_path / "folder").mkdir()
    for name in ("config.json", "folder"):
        with pytest.raises(CheckpointError, match="not a regular file"):
            checked_file(tmp_path, tmp_path / name)
        with pytest.raises(CheckpointError, match="not a regular file"):
            open_regular(tmp_path / name)
