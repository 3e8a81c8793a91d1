"""Profiles side by side: what tells them apart, and what cannot be read across."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from puma_cli import compare_profiles
from puma_cli.errors import CheckpointError, ConfigError
from puma_cli.profiling.profile import LayerProfile, write_profile
from tests.profiling.examples import profile


def written(folder: Path, made: LayerProfile) -> Path:
    folder.mkdir()
    write_profile(made, folder)
    return folder


def test_profiles_come_back_in_order(tmp_path: Path) -> None:
    made = profile(), profile(bridged=False)
    folders = [written(tmp_path / name, one) for name, one in zip("ba", made, strict=True)]
    found = compare_profiles(folders)
    assert found.profiles == tuple(
        replace(one, folder=folder) for one, folder in zip(made, folders, strict=True)
    )
    assert found.notes == ()
    assert found.depth == 12


def test_names_are_what_differs(tmp_path: Path) -> None:
    made = profile()
    first = written(tmp_path / "1", made)
    model = written(tmp_path / "2", replace(made, model="models/other"))
    data = written(tmp_path / "3", replace(made, data="sets/other"))
    assert compare_profiles([first, model]).names == ("puma-mini", "other")
    assert compare_profiles([first, data]).names == ("scenes", "other")
    assert compare_profiles([first, first]).names == (str(first), str(first))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": "other"}, "different data"),
        ({"readout": None}, "smaller pool"),
        ({"measured": {"split": "test"}}, "different data"),
        ({"measured": {"stopped": True}}, "stopped early"),
        ({"measured": {"device": "NVIDIA"}}, "times cannot be compared"),
        ({"measured": {"batch_size": 7}}, "times cannot be compared"),
    ],
)
def test_what_cannot_be_compared_is_said(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    made = profile()
    changes = dict(change)
    if "measured" in change:
        changes["measured"] = replace(made.measured, **change["measured"])  # type: ignore[arg-type]
    if "readout" in change:
        changes["readout"] = tuple(replace(row, candidates=900) for row in made.readout)
    folders = [
        written(tmp_path / "1", made),
        written(tmp_path / "2", replace(made, **changes)),  # type: ignore[arg-type]
    ]
    (note,) = compare_profiles(folders).notes
    assert words in note


def test_one_profile_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two profiles"):
        compare_profiles([written(tmp_path / "1", profile())])


def test_a_folder_without_a_profile(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no"):
        compare_profiles([tmp_path, tmp_path])
