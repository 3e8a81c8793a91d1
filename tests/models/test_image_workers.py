"""Images decoded by other processes are the same to the bit, and the processes leave no trace."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from puma_cli.errors import DataError
from puma_cli.models.embedder import Embedder
from puma_cli.models.image_worker import HEADER, fitting_size, serve
from puma_cli.models.image_workers import (
    AUTO,
    LARGE_PIXELS,
    MANY_IMAGES,
    ImageWorkers,
    worker_count,
)
from puma_cli.models.inputs import Input
from puma_cli.models.opening import load


@pytest.fixture(scope="module")
def embedder(tiny_checkpoint: Path) -> Embedder:
    return load(tiny_checkpoint, "cpu")


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Images of many sizes, forms and modes."""
    random = np.random.default_rng(0)
    found = []
    modes = ("RGB", "RGBA", "L", "P", "LA", "CMYK", "1")
    for number, mode in enumerate(modes * 2):
        sides = random.integers(9, 200, 2)
        pixels = random.integers(0, 256, (sides[0], sides[1], 4), dtype=np.uint8)
        path = tmp_path / f"{number}.{'tiff' if mode == 'CMYK' else 'png'}"
        Image.fromarray(pixels, "RGBA").convert("RGB" if mode in "CMYKP" else mode).convert(
            mode
        ).save(path)
        found.append(path)
    return found


@given(
    width=st.integers(1, 3_000),
    height=st.integers(1, 3_000),
    least=st.sampled_from([784, 3_136, 50_176]),
    times=st.sampled_from([1, 4, 64]),
)
def test_sizes_are_those_of_the_stock_processor(
    embedder: Embedder, width: int, height: int, least: int, times: int
) -> None:
    if max(width, height) > 200 * min(width, height):
        return
    shape = embedder.image_processor
    most = least * times
    found = fitting_size(width, height, shape.patch_size * shape.merge_size, least, most)
    assert found[0] * found[1] // shape.patch_size**2 == shape.get_number_of_image_patches(
        height, width, {"min_pixels": least, "max_pixels": most}
    )


def test_pixels_are_the_same_whoever_decodes(embedder: Embedder, images: list[Path]) -> None:
    inputs = [Input(image=image) for image in [*images, *images[:3]]]
    embedder.processor = embedder._new_processor()
    expected = embedder.collate(inputs)
    embedder.processor = embedder._new_processor()
    with embedder.images_ahead(2, images) as workers:
        assert workers is not None
        workers.ask(images)
        # Whatever was not decoded by a worker would be none here.
        ready = [workers._asked[image].result() for image in images]
        # But for thin ones, which only the stock processor resizes as it does.
        assert sum(image is not None for image in ready) >= len(images) - 4
        found = embedder.collate(inputs)
    assert found.pixel_values is not None and expected.pixel_values is not None
    assert torch.equal(found.pixel_values, expected.pixel_values)
    assert found.image_grid is not None and expected.image_grid is not None
    assert torch.equal(found.image_grid, expected.image_grid)
    embedder.processor = embedder._new_processor()
    with embedder.images_ahead(1, images):
        assert torch.equal(embedder.encode(inputs, batch_size=2), embedder.encode(inputs, 2))


@pytest.mark.parametrize("kind", ["missing", "broken", "thin"])
def test_what_cannot_be_decoded_says_the_same(
    embedder: Embedder, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "image.png"
    if kind == "broken":
        path.write_bytes(b"\x89PNG but not for long")
    elif kind == "thin":
        Image.new("RGB", (1_000, 2)).save(path)
    said = []
    for count in (0, 1):
        embedder.processor = embedder._new_processor()
        with embedder.images_ahead(count, [path]), pytest.raises(DataError) as caught:
            embedder.encode([Input(text="a"), Input(image=path)])
        said.append(caught.value.problem)
    assert said[0] == said[1]
    replies = io.BytesIO()
    serve(json.dumps({"path": str(path), "factor": 28, "least": 1, "most": 9}).encode(), replies)
    assert replies.getvalue() == HEADER.pack(0, 0, 0)


def test_a_worker_that_dies_is_replaced(images: list[Path]) -> None:
    request = {"factor": 28, "least": 784, "most": 3_136, "resample": 3}
    workers = ImageWorkers(1, request)
    try:
        workers.ask(images[:1])
        assert workers.take(images[0]) is not None
        workers._processes[0].kill()
        workers._processes[0].wait()
        workers.ask(images[1:2])
        assert workers.take(images[1]) is None
        workers.ask(images[2:3])
        assert workers.take(images[2]) is not None
        assert workers.take(images[3]) is None
    finally:
        workers.close()
    assert all(process.poll() is not None for process in workers._processes)


PROGRAM = """
import sys, time
from pathlib import Path
from puma_cli.models.image_workers import ImageWorkers
workers = ImageWorkers(2, {"factor": 28, "least": 784, "most": 3136, "resample": 3})
workers.ask(Path(name) for name in sys.argv[1:])
assert any([workers.take(Path(name)) is not None for name in sys.argv[1:]])
print(*(process.pid for process in workers._processes), "torch" in sys.modules, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_process_that_started_them(
    images: list[Path], number: signal.Signals
) -> None:
    words = [sys.executable, "-c", PROGRAM, *map(str, images)]
    program = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert program.stdout is not None
    *workers, torch_there = program.stdout.readline().split()
    assert torch_there == b"False" and len(workers) == 2
    program.send_signal(number)
    program.wait()
    until = time.monotonic() + 20
    while any(_runs(int(worker)) for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.05)


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_few_or_small_images_get_no_processes(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = tmp_path / "large.png"
    side = int(LARGE_PIXELS**0.5) + 1
    Image.new("RGB", (side, side)).save(large)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    many = [large] * MANY_IMAGES
    assert worker_count(AUTO, many) == 6
    assert worker_count(AUTO, many, sharing=3) == 2
    assert worker_count(AUTO, many, sharing=4) == 0
    assert worker_count(AUTO, many[1:]) == 0
    assert worker_count(AUTO, images[:1] * MANY_IMAGES) == 0
    assert worker_count(AUTO, [tmp_path / "missing.png"] * MANY_IMAGES) == 0
    assert worker_count(3, []) == 3
    assert worker_count(0, many) == 0
