"""What a container leaves to the proof, on both versions of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from puma_cli.pruning.proof import free_memory as module
from puma_cli.pruning.proof.free_memory import free_memory, left_in_groups

NAMES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    2: ("memory.max", "memory.current", ""),
}


def group(folder: Path, version: int, limit: str, used: int, cached: int) -> None:
    most, now, prefix = NAMES[version]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / most).write_text(f"{limit}\n")
    (folder / now).write_text(f"{used}\n")
    lines = f"anon 5\n{prefix}active_file {cached}\n{prefix}inactive_file {cached}\n"
    (folder / "memory.stat").write_text(lines)


@pytest.mark.parametrize("version", [1, 2])
def test_limits_of_a_group_and_of_those_around_it_count(version: int, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text({1: "9:cpu:/x\n4:memory:/job/step\n0::/\n", 2: "0::/job/step\n"}[version])
    top = tmp_path / ("memory" if version == 1 else "")
    group(top / "job", version, "1000", used=700, cached=50)
    group(top / "job" / "step", version, "max", used=700, cached=50)
    assert list(left_in_groups(tmp_path, own)) == [400]
    group(top / "job" / "step", version, "900", used=700, cached=0)
    assert list(left_in_groups(tmp_path, own)) == [200, 400]


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_that_is_told_its_hosts_path(version: int, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text({1: "4:memory:/docker/1a2b\n", 2: "0::/../1a2b\n"}[version])
    group(tmp_path / ("memory" if version == 1 else ""), version, "1000", used=100, cached=0)
    assert list(left_in_groups(tmp_path, own))[-1] == 900


def test_without_groups_the_machine_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(left_in_groups(tmp_path, tmp_path / "absent")) == []
    monkeypatch.setattr(module, "left_in_groups", lambda: iter(()))
    assert free_memory() > 2**20
    monkeypatch.setattr(module, "left_in_groups", lambda: iter([7, 5]))
    assert free_memory() == 5
    monkeypatch.setattr(module, "left_in_groups", lambda: iter([-3]))
    assert free_memory() == 0
