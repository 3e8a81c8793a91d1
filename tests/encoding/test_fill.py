"""A store is filled with what the model says, once a content, and goes on where it ended."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from puma_cli.encoding.fill import Filling, unit_vectors
from puma_cli.encoding.shards import shard_files
from puma_cli.encoding.store import VectorStore
from puma_cli.errors import DataError, NumericError
from puma_cli.interruption import StopRequest
from puma_cli.models.embedder import Embedder
from puma_cli.models.inputs import Input
from puma_cli.models.processing import Batch
from puma_cli.progress import Reporter

T = TypeVar("T")
# What fp32 rounds off differs with a batch's shape.
BOUND = 1e-5


class Counted:
    """Reads like `unit_vectors` and counts the batches; fails at one if asked to."""

    def __init__(self, fail_at: int | None = None, error: BaseException | None = None) -> None:
        self.batches: list[int] = []
        self._fail_at, self._error = fail_at, error

    def __call__(self, embedder: Embedder, batch: Batch) -> torch.Tensor:
        if self._error is not None and len(self.batches) == self._fail_at:
            raise self._error
        self.batches.append(len(batch.input_ids))
        return unit_vectors(embedder, batch)


def filled(
    folder: Path, embedder: Embedder, inputs: list[Input], **options: object
) -> tuple[torch.Tensor, Filling]:
    filling = Filling(lambda: embedder, **{"batch_size": 8, "rows": 16, **options})  # type: ignore[arg-type]
    found = filling.fill(VectorStore(folder, {"model": "x"}), inputs)
    assert found is not None
    return found.rows(0, len(inputs)).clone(), filling


def held(folder: Path) -> int:
    return sum(len(load_file(file)["keys"]) for file in shard_files(folder))


def test_vectors_are_the_model_s_and_are_made_once(
    embedder: Embedder, inputs: list[Input], tmp_path: Path
) -> None:
    expected = embedder.encode(inputs)
    found, filling = filled(tmp_path, embedder, inputs)
    torch.testing.assert_close(found, expected, rtol=0, atol=BOUND)
    assert filling.encoded == len(inputs) == held(tmp_path)

    def no_model() -> Embedder:
        raise AssertionError("nothing is missing")

    backwards = Filling(no_model).fill(VectorStore(tmp_path), inputs[::-1])
    assert backwards is not None
    assert torch.equal(backwards.rows(0, len(inputs)).flip(0), found)
    assert Filling(no_model).fill(VectorStore(tmp_path), []) is not None


@given(data=st.data(), batch_size=st.integers(1, 64), tokens=st.integers(1, 3_000))
@settings(max_examples=12)
def test_neither_order_nor_batches_matter(
    embedder: Embedder,
    inputs: list[Input],
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    batch_size: int,
    tokens: int,
) -> None:
    chosen = data.draw(
        st.lists(st.integers(0, len(inputs) - 1), min_size=1, max_size=40, unique=True)
    )
    some = [inputs[place] for place in chosen]
    found, _ = filled(
        tmp_path_factory.mktemp("fill"), embedder, some, batch_size=batch_size, tokens=tokens
    )
    alone = torch.cat([embedder.encode([entry]) for entry in some])
    torch.testing.assert_close(found, alone, rtol=0, atol=BOUND)


def test_equal_contents_are_embedded_once(
    embedder: Embedder, inputs: list[Input], tmp_path: Path
) -> None:
    shown = next(entry for entry in inputs if entry.image is not None)
    assert shown.image is not None
    copies = [tmp_path / f"copy{n}.png" for n in range(3)]
    for copy in copies:
        shutil.copy(shown.image, copy)
    many = [*inputs[:20], *(replace(shown, image=copy) for copy in copies), *inputs[:20], shown]
    found, filling = filled(tmp_path / "s", embedder, many)
    assert filling.encoded == held(tmp_path / "s") == len({*inputs[:20], shown})
    assert torch.equal(found[:20], found[23:43])
    assert all(torch.equal(found[row], found[43]) for row in (20, 21, 22))


def test_only_what_is_new_is_embedded(
    embedder: Embedder, inputs: list[Input], tmp_path: Path
) -> None:
    first, _ = filled(tmp_path, embedder, inputs[::3])
    whole, filling = filled(tmp_path, embedder, inputs)
    assert filling.encoded == len(inputs) - len(first)
    assert torch.equal(whole[::3], first)
    torch.testing.assert_close(whole, embedder.encode(inputs), rtol=0, atol=BOUND)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DataError("An image."), MemoryError()])
def test_a_failure_keeps_what_is_computed_and_the_rest_comes_out_the_same(
    embedder: Embedder, inputs: list[Input], tmp_path: Path, error: BaseException
) -> None:
    expected, whole = filled(tmp_path / "whole", embedder, inputs)
    broken = Counted(7, error)
    with pytest.raises(type(error)):
        filled(tmp_path / "s", embedder, inputs, read=broken)
    assert held(tmp_path / "s") == sum(broken.batches) > 0
    found, rest = filled(tmp_path / "s", embedder, inputs)
    assert sum(broken.batches) + rest.encoded == whole.encoded
    assert torch.equal(found, expected)


def test_a_stop_keeps_what_is_computed(
    embedder: Embedder, inputs: list[Input], tmp_path: Path
) -> None:
    stop = StopRequest()
    counted = Counted()

    class Stopping(Reporter):
        def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
            assert total == len(inputs)
            for number, item in enumerate(items):
                if number == 50:
                    stop.signal = 2
                yield item

    filling = Filling(lambda: embedder, counted, batch_size=8, stop=stop)
    assert filling.fill(VectorStore(tmp_path), inputs, Stopping()) is None
    assert 0 < held(tmp_path) == sum(counted.batches) <= 50


def test_numbers_that_are_not_finite_are_refused_and_not_kept(
    embedder: Embedder, inputs: list[Input], tmp_path: Path
) -> None:
    norm = embedder.decoder.norm.weight
    with torch.no_grad():
        before = norm.clone()
        norm.fill_(float("nan"))
    try:
        with pytest.raises(NumericError):
            filled(tmp_path, embedder, inputs)
    finally:
        with torch.no_grad():
            norm.copy_(before)
    assert not shard_files(tmp_path)


def test_a_missing_image_names_itself_and_costs_nothing_else(
    embedder: Embedder, inputs: list[Input], tmp_path: Path
) -> None:
    gone = Input(image=tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"gone\.png"):
        filled(tmp_path / "s", embedder, [*inputs, gone])
    shutil.copy(next(e.image for e in inputs if e.image), tmp_path / "gone.png")
    found, _ = filled(tmp_path / "s", embedder, [*inputs, gone])
    torch.testing.assert_close(found, embedder.encode([*inputs, gone]), rtol=0, atol=BOUND)


def test_a_broken_file_is_computed_again(
    embedder: Embedder, inputs: list[Input], tmp_path: Path
) -> None:
    expected, _ = filled(tmp_path, embedder, inputs)
    file = shard_files(tmp_path)[1]
    rows = len(load_file(file)["keys"])
    file.write_bytes(file.read_bytes()[:-9])
    found, filling = filled(tmp_path, embedder, inputs)
    assert filling.encoded == rows
    assert torch.equal(found, expected)
