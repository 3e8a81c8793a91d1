"""`prune` where target or source fail for real: a full disk, a read-only one, lost files."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from puma_cli.config.settings import PruneSettings
from puma_cli.errors import CheckpointError, OutputError
from puma_cli.progress import Reporter
from puma_cli.pruning import prune as prune_module
from puma_cli.pruning.prune import prune


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, less than the tiny cut's weights."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if mount is None or subprocess.run([mount, *options], capture_output=True).returncode:
        pytest.skip("mounting a file system is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def cut(model: Path, out: Path, **changes: Any) -> None:
    prune(PruneSettings(str(model), out, keep=2, verify="none", **changes))


def test_too_small_a_disk_is_refused_before_anything_is_written(
    parents: dict[str, Path], small_disk: Path
) -> None:
    with pytest.raises(OutputError, match=r"will not fit its disk: it needs .* and 65.5 kB are"):
        cut(parents["base"], small_disk / "cut")
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing(
    parents: dict[str, Path], small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if another program took the space after it was counted.
    monkeypatch.setattr(prune_module, "check_space", lambda *_: None)
    with pytest.raises(OutputError, match="the disk is full"):
        cut(parents["base"], small_disk / "cut")
    assert list(small_disk.iterdir()) == []


def test_a_read_only_disk_is_named(parents: dict[str, Path], small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OutputError, match=r"cut` (cannot be written|will not fit)"):
        cut(parents["base"], small_disk / "cut")


@pytest.mark.parametrize("moment", ["planned", "written"])
def test_a_source_that_vanishes_leaves_nothing(
    parent_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    at = {"planned": "copy_side_files", "written": "check_space"}[moment]
    real = getattr(prune_module, at)

    def vanish(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        (parent_copy / "model.safetensors").unlink()
        return result

    monkeypatch.setattr(prune_module, at, vanish)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        cut(parent_copy, tmp_path / "cut")
    assert [path.name for path in tmp_path.iterdir()] == ["parent"]


def test_a_whole_shard_that_vanishes_is_no_link(
    parents: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = Path(shutil.copytree(parents["sharded"], tmp_path / "parent"))

    class Vanishing(Reporter):
        def track(self, items: Any, label: str, total: int | None = None) -> Iterator[Any]:
            for number, item in enumerate(items):
                if label == "write weights" and not number:
                    for file in parent.glob("*.safetensors"):
                        file.unlink()
                yield item

    with pytest.raises(CheckpointError, match=r"vanished|missing|cannot be read"):
        prune(
            PruneSettings(str(parent), tmp_path / "cut", keep=2, link=True, verify="none"),
            Vanishing(),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["parent"]
