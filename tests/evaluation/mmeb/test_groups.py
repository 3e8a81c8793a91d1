"""The groups of MMEB and their means."""

from __future__ import annotations

import pytest

from puma_cli.data.mmeb.names import DOCUMENT_SETS, IMAGE_SETS, VIDEO_SETS, groups, place_of
from puma_cli.evaluation.mmeb.groups import group_means


def test_the_groups_have_their_published_sizes_and_no_set_twice() -> None:
    sizes = {name: len(members) for name, members in groups().items()}
    assert sizes == {
        "all": 36,
        "IND": 20,
        "OOD": 16,
        "classification": 10,
        "VQA": 10,
        "retrieval": 12,
        "grounding": 4,
    }
    assert len({*IMAGE_SETS, *VIDEO_SETS, *DOCUMENT_SETS}) == 36 + 18 + 24
    assert {*groups()["IND"], *groups()["OOD"]} == set(IMAGE_SETS)
    assert place_of("EDIS") == ("retrieval", "OOD")
    assert place_of("mine") == ("", "")


def test_means_are_plain_and_say_what_they_lack() -> None:
    scores = {name: place / 36 for place, name in enumerate(IMAGE_SETS)}
    means = {mean.name: mean for mean in group_means(scores)}
    assert all(mean.complete for mean in means.values())
    assert means["all"].mean == pytest.approx(sum(range(36)) / 36 / 36)
    grounding = [scores[name] for name in groups()["grounding"]]
    assert means["grounding"].mean == pytest.approx(sum(grounding) / 4)
    del scores["MSCOCO"]
    means = {mean.name: mean for mean in group_means({**scores, "mine": 1.0})}
    assert means["grounding"].missing == means["IND"].missing == ("MSCOCO",)
    assert not means["all"].complete and means["OOD"].complete
    assert means["grounding"].mean == pytest.approx(sum(grounding[1:]) / 3)
    assert means["all"].to_json()["sets"] == 35
    assert all(mean.mean is None for mean in group_means({}))
