"""A frozen tower sees what a training plans once, in batches that hang on the plan alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from puma_cli.data.batches import BatchOrder
from puma_cli.data.examples import Examples
from puma_cli.data.mbeir import MbeirFolder
from puma_cli.distillation import frozen_vision
from puma_cli.distillation.frozen_vision import FrozenVision, planned_images
from puma_cli.interruption import StopRequest
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load
from puma_cli.models.processing import Batch
from puma_cli.progress import SILENT


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


def filled(
    embedder: Embedder, images: Sequence[Path], limit: int = frozen_vision.LIMIT
) -> FrozenVision:
    vision = FrozenVision(embedder, limit)
    assert vision.fill(images, SILENT, StopRequest(None))
    return vision


def bytes_of_one(embedder: Embedder, image: Path) -> int:
    (rows,) = embedder.vision_features(batch_of(embedder, image)).pooler_output
    return int(rows.nbytes)


def test_features_are_the_towers_in_order(embedder: Embedder, images: list[Path]) -> None:
    batch = batch_of(embedder, images[2], None, images[0], images[2])
    vision = filled(embedder, images)
    found = vision.features(batch).pooler_output
    expected = embedder.vision_features(batch).pooler_output
    assert len(found) == len(expected) == 3
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(
            embedder.embed(batch, vision.features(batch)), embedder.embed(batch)
        )


def test_what_is_planned_is_seen_once_and_in_batches(
    embedder: Embedder, images: list[Path], seen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_vision, "BATCH", 2)
    vision = filled(embedder, images)
    assert seen == [2, 2, 1]
    first = vision.features(batch_of(embedder, images[0], images[1])).pooler_output
    again = vision.features(batch_of(embedder, images[1], images[4])).pooler_output
    assert seen == [2, 2, 1]
    assert again[0] is first[1]
    # A training that was stopped sees the images once more: not a bit may differ.
    other = filled(embedder, images).features(batch_of(embedder, *images)).pooler_output
    assert torch.equal(other[1], first[1])
    assert torch.equal(other[4], again[1])


def test_the_rest_is_seen_with_its_batch(
    embedder: Embedder, images: list[Path], seen: list[int]
) -> None:
    vision = filled(embedder, images[:2])
    batch = batch_of(embedder, images[3], images[1], images[4], images[0])
    found = vision.features(batch).pooler_output
    assert seen == [2, 2]
    expected = embedder.vision_features(batch).pooler_output
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_without_images_there_is_nothing_to_see(embedder: Embedder, seen: list[int]) -> None:
    assert filled(embedder, []).features(batch_of(embedder, None)) is None
    assert [count for count in seen if count] == []


def test_random_views_are_not_remembered(
    embedder: Embedder, images: list[Path], seen: list[int]
) -> None:
    vision = filled(embedder, images[:1])
    views = [Input(image=images[0], view=view) for view in (1, 2)]
    batch = embedder.collate([*views, Input(image=images[1])])
    assert batch.images == (None, None, images[1])
    for _ in range(2):
        assert len(vision.features(batch).pooler_output) == 3
    assert seen == [1, 3, 3]


def test_large_images_are_not_remembered(
    embedder: Embedder, images: list[Path], seen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = max(bytes_of_one(embedder, image) for image in images)
    seen.clear()
    monkeypatch.setattr(frozen_vision, "LARGEST", size - 1)
    filled(embedder, images)
    assert seen == []
    monkeypatch.setattr(frozen_vision, "LARGEST", size)
    filled(embedder, images)
    assert seen == [5]


def test_no_more_is_remembered_than_the_limit(
    embedder: Embedder, images: list[Path], seen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_vision, "BATCH", 1)
    limit = sum(bytes_of_one(embedder, image) for image in images[:2])
    vision = filled(embedder, images, limit)
    seen.clear()
    vision.features(batch_of(embedder, *images))
    assert seen == [3]


def test_a_stop_ends_the_seeing(embedder: Embedder, images: list[Path], seen: list[int]) -> None:
    stop = StopRequest(None)
    stop.signal = 15
    assert not FrozenVision(embedder).fill(images, SILENT, stop)
    assert seen == []


def test_the_plan_names_each_image_of_the_first_epoch_once(tiny_scenes: Path) -> None:
    data = MbeirFolder(tiny_scenes)
    queries = data.train_queries("*")
    order = BatchOrder(queries, 4, "mixed", seed=3)

    def planned(steps: int, augment: bool = False) -> list[Path]:
        examples = Examples(
            queries, data.union_pool("train"), data.instructions, "seeded", 3, augment
        )
        return list(planned_images(order, examples, steps))

    epoch = planned(order.steps_per_epoch)
    assert len(epoch) == len(set(epoch)) > 0
    assert planned(10 * order.steps_per_epoch) == epoch
    few = planned(2)
    assert few == epoch[: len(few)] and len(few) < len(epoch)
    assert planned(2, augment=True) == []
