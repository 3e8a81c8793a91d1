"""`puma.json` keeps what a run was asked for and what it was made from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from puma_cli.checkpoint.provenance import Parent, describe, read_provenance, write_provenance
from puma_cli.errors import CheckpointError


@dataclass(frozen=True)
class Inner:
    weight: float = 0.5


@dataclass(frozen=True)
class Settings:
    output_dir: Path = Path("runs/../out")
    pools: tuple[str, ...] = ("local",)
    inner: Inner = field(default_factory=Inner)
    seed: int = 7


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    parents = [Parent("model", "puma-mini", "sampled-sha256:ab")]
    written = describe("prune", Settings(), parents, kept_layers=range(3), results={"n": (1, 2)})
    write_provenance(tmp_path, written)
    read = read_provenance(tmp_path)
    assert read == written
    assert read is not None
    assert read.seed == 7
    assert read.kept_layers == [0, 1, 2]
    assert {"python", "torch", "transformers"} <= set(read.versions)
    assert read.created.endswith("+00:00")


def test_settings_are_plain_and_paths_stay_as_given(tmp_path: Path) -> None:
    write_provenance(tmp_path, describe("prune", Settings()))
    content = json.loads((tmp_path / "puma.json").read_text())
    assert content["settings"] == {
        "output_dir": "runs/../out",
        "pools": ["local"],
        "inner": {"weight": 0.5},
        "seed": 7,
    }
    assert content["format"] == 1


def test_a_folder_without_history_has_none(tmp_path: Path) -> None:
    assert read_provenance(tmp_path) is None


ODD_SETTINGS = '{"format": 1, "command": "prune", "settings": []}'


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 1}', '{"format": 99}', ODD_SETTINGS])
def test_a_broken_history_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "puma.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"puma\.json"):
        read_provenance(tmp_path)
