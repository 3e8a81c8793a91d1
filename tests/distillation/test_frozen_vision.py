"""A frozen tower's features are computed once, and are the same in whatever batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from puma_cli.distillation import frozen_vision
from puma_cli.distillation.frozen_vision import FrozenVision
from puma_cli.models.embedder import Embedder, load
from puma_cli.models.inputs import Input
from puma_cli.models.processing import Batch


@pytest.fixture(scope="module")
def embedder(tiny_checkpoint: Path) -> Embedder:
    return load(tiny_checkpoint, "cpu")


@pytest.fixture(scope="module")
def images(tiny_scenes: Path) -> list[Path]:
    return sorted(tiny_scenes.rglob("*.png"))[:5]


@pytest.fixture
def seen(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of each call of the tower."""
    counts: list[int] = []
    plain = embedder.vision_features

    def counted(batch: Batch) -> Any:
        counts.append(0 if batch.image_grid is None else len(batch.image_grid))
        return plain(batch)

    monkeypatch.setattr(embedder, "vision_features", counted)
    return counts


def batch_of(embedder: Embedder, *images: Path | None) -> Batch:
    return embedder.collate([Input(text="a", image=image) for image in images])


def test_features_are_the_towers_in_order(embedder: Embedder, images: list[Path]) -> None:
    batch = batch_of(embedder, images[2], None, images[0], images[2])
    found = FrozenVision(embedder).features(batch).pooler_output
    expected = embedder.vision_features(batch).pooler_output
    assert len(found) == len(expected) == 3
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(
            embedder.embed(batch, FrozenVision(embedder).features(batch)), embedder.embed(batch)
        )


def test_an_image_is_seen_once_and_alone(
    embedder: Embedder, images: list[Path], seen: list[int]
) -> None:
    vision = FrozenVision(embedder)
    first = vision.features(batch_of(embedder, images[0], images[1])).pooler_output
    again = vision.features(batch_of(embedder, images[1], images[2])).pooler_output
    assert seen == [1, 1, 1]
    assert again[0] is first[1]
    # A training that was stopped meets the image in another batch: not a bit may differ.
    other = FrozenVision(embedder).features(batch_of(embedder, *images)).pooler_output
    assert torch.equal(other[1], first[1])


def test_without_images_there_is_nothing_to_see(embedder: Embedder, seen: list[int]) -> None:
    assert FrozenVision(embedder).features(batch_of(embedder, None)) is None
    assert seen == []


def test_random_views_are_not_remembered(
    embedder: Embedder, images: list[Path], seen: list[int]
) -> None:
    views = [Input(image=images[0], view=view) for view in (1, 2)]
    batch = embedder.collate([*views, Input(image=images[1])])
    assert batch.images == (None, None, images[1])
    vision = FrozenVision(embedder)
    for _ in range(2):
        assert len(vision.features(batch).pooler_output) == 3
    assert seen == [3, 3]


def test_large_images_are_seen_together(
    embedder: Embedder, images: list[Path], seen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(embedder, *images)
    (size, *_) = (rows.nbytes for rows in embedder.vision_features(batch).pooler_output)
    seen.clear()
    monkeypatch.setattr(frozen_vision, "LARGEST", size - 1)
    FrozenVision(embedder).features(batch)
    assert seen == [5]
    monkeypatch.setattr(frozen_vision, "LARGEST", size)
    FrozenVision(embedder).features(batch)
    assert seen == [5, 1, 1, 1, 1, 1]


def test_what_was_used_longest_ago_is_forgotten(
    embedder: Embedder, images: list[Path], seen: list[int]
) -> None:
    batch = batch_of(embedder, *images)
    size = embedder.vision_features(batch).pooler_output[0].nbytes
    seen.clear()
    vision = FrozenVision(embedder, limit=2 * size)
    vision.features(replace(batch))
    vision.features(batch_of(embedder, images[4]))
    vision.features(batch_of(embedder, images[0]))
    assert sum(seen) == 5 + 0 + 1
